"""Lists of an account, the newest first, page by page, and its usage as a stream of any length.

A page ends at a place in the list's own order and not at a number of rows: what comes meanwhile moves nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, cast

import orjson

from pipeline.clickhouse import Client
from pipeline.query.accounts import BEGINNING, END
from pipeline.query.rows import AS_ON_THE_WIRE, rows

_INSTANT: Final = "parseDateTime64BestEffort({%s:String}, 3, 'UTC')"
Place = tuple[str | int, ...]
"""Values of a list's order columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One list: a view, and the columns that order it, each with the way its value is bound."""

    view: str
    columns: str
    order: Mapping[str, str]
    time: str = "accepted_at"
    """The column that `since` and `until` are about."""


_NUMBER: Final = "{%s:UInt64}"
_TEXT: Final = "{%s:String}"
RECORDS: Final = Listing(
    view="metered_records_v1",
    columns="event_id, source, service, outcome, reason, occurred_at, accepted_at, channel, images, credits, "
    "rated_credits, price_book, balance_after, partition, offset",
    order={"accepted_at": _INSTANT, "partition": _NUMBER, "offset": _NUMBER},
)
ENTRIES: Final = Listing(
    view="ledger_entries_v1",
    columns="entry_seq, kind, credits, balance_after, booked_at, accepted_at, cause_source, cause_id, grants, "
    "partition, offset, previous_hash, entry_hash",
    order={"entry_seq": _NUMBER},
)
STATEMENTS: Final = Listing(
    view="account_statements_v1",
    columns="plan, period_start, period_end, opening, granted, overage, reversed, used, expired, voided, closing, "
    "overage_price, overage_amount, overage_returned, overage_returns, currency, "
    "last_entry_seq, accepted_at, partition_seq",
    order={"partition_seq": _NUMBER, "period_end": _INSTANT},
)
ALERTS: Final = Listing(
    view="account_alerts_v1",
    columns="alert_id, kind, threshold, used, base, period_start, period_end, accepted_at, partition_seq",
    order={"partition_seq": _NUMBER, "alert_id": _TEXT},
)
DELIVERIES: Final = Listing(
    view="alert_deliveries_v1",
    columns="delivery_id, alert_id, kind, threshold, accepted_at, channel, target_id, target, status, attempts, "
    "redeliveries, last_code, last_error, next_attempt_at, updated_at",
    order={"accepted_at": _INSTANT, "delivery_id": _TEXT},
)


TOPUPS: Final = Listing(
    view="topup_orders_v1",
    columns="order_number, pack, credits, price, currency, threshold, credits_left, accepted_at",
    order={"order_number": _NUMBER},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is asked for: accepted in [since, until), RFC 3339 in UTC; of records also by what they say. Empty: any."""

    since: str = BEGINNING
    until: str = END
    service: str = ""
    outcome: str = ""
    channel: str = ""


def page(
    client: Client, listing: Listing, account: str, filters: Filters, *, after: Place | None, limit: int
) -> list[dict[str, Any]]:
    """The next rows of the list after a place, the newest first."""
    where, parameters = _where(listing, account, filters)
    if after is not None:
        bound = ", ".join(way % f"after{index}" for index, way in enumerate(listing.order.values()))
        where += f" AND ({', '.join(listing.order)}) < ({bound})"
        parameters |= {f"after{index}": value for index, value in enumerate(after)}
    order = ", ".join(f"{column} DESC" for column in listing.order)
    sql = (
        f"SELECT {listing.columns} FROM {listing.view} WHERE {where} ORDER BY {order} LIMIT {{limit:UInt32}}"  # noqa: S608  (parts of our own; values are bound by the server)
    )
    return rows(client, sql, {**parameters, "limit": limit})


def place_of(listing: Listing, row: Mapping[str, Any]) -> Place:
    """Where in its list a row stands."""
    return tuple(row[column] for column in listing.order)


def usage_stream(client: Client, account: str, filters: Filters) -> Iterator[dict[str, Any]]:
    """All records that the filters let through with their receipts, the oldest first, read as they come."""
    where, parameters = _where(RECORDS, account, filters)
    order = ", ".join(RECORDS.order)
    columns = f"{RECORDS.columns}, entry_seq, first_offset, receipt"
    sql = f"SELECT {columns} FROM {RECORDS.view} WHERE {where} ORDER BY {order}"  # noqa: S608  (as above)
    for row in _streamed(client, sql, parameters):
        yield {**row, "receipt": orjson.loads(row["receipt"]) if row["receipt"] else None}


def entry_stream(client: Client, account: str, filters: Filters) -> Iterator[dict[str, Any]]:
    """All ledger entries made in the time of the filters, the oldest first: what `entry_hash` is made of."""
    where, parameters = _where(ENTRIES, account, Filters(since=filters.since, until=filters.until))
    columns = (
        "entry_seq, kind, credits, balance_after, booked_at, cause_id, grants, partition, offset, "
        "previous_hash, entry_hash"
    )
    sql = f"SELECT {columns} FROM {ENTRIES.view} WHERE {where} ORDER BY entry_seq"  # noqa: S608  (as above)
    yield from _streamed(client, sql, parameters)


def posted_before(client: Client, account: str, instant: str) -> str:
    """The posted credits of an account after all entries that were made before an instant."""
    where, parameters = _where(ENTRIES, account, Filters(until=instant))
    sql = f"SELECT balance_after FROM {ENTRIES.view} WHERE {where} ORDER BY entry_seq DESC LIMIT 1"  # noqa: S608  (as above)
    found = rows(client, sql, parameters)
    return str(found[0]["balance_after"]) if found else "0"


def _streamed(client: Client, sql: str, parameters: Mapping[str, str | int]) -> Iterator[dict[str, Any]]:
    rest = b""
    raw = client.raw_stream(sql, parameters=dict(parameters), settings=AS_ON_THE_WIRE, fmt="JSONEachRow")
    with cast(AbstractContextManager[IO[bytes]], raw) as stream:
        while chunk := stream.read(1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (orjson.loads(line) for line in lines)
    assert not rest, "the last line ends like every other, or the stream was cut off"


UsageBy = Literal["service", "day", "hour", "service_by_day", "service_by_hour"]
_DAY: Final = "toString(toDate(accepted_at, {zone:String})) AS day"
_HOUR: Final = "formatDateTime(accepted_at, '%Y-%m-%dT%H:00', {zone:String}) AS hour"
_KEYS: Final[dict[UsageBy, str]] = {
    "service": "service",
    "day": _DAY,
    "hour": _HOUR,
    "service_by_day": f"{_DAY}, service",
    "service_by_hour": f"{_HOUR}, service",
}
_TOTALS: Final = """
SELECT
    KEY,
    countIf(outcome = 'metered') AS metered,
    countIf(outcome = 'denied') AS denied,
    countIf(outcome = 'duplicate') AS duplicates,
    countIf(outcome IN ('reversed', 'rerated')) AS corrections,
    sumIf(metered_records_v1.images, outcome = 'metered') AS images,
    sum(metered_records_v1.credits) AS credits
FROM metered_records_v1 WHERE FILTERS GROUP BY NAMES ORDER BY NAMES
"""


def usage_totals(
    client: Client, account: str, filters: Filters, *, by: UsageBy, zone: str
) -> list[dict[str, Any]]:
    """What was used by `service`, by `day` or `hour` of a time zone, or by service in each of these."""
    where, parameters = _where(RECORDS, account, filters)
    names = "1, 2" if by.startswith("service_by_") else "1"
    sql = _TOTALS.replace("KEY", _KEYS[by]).replace("FILTERS", where).replace("NAMES", names)
    return rows(client, sql, {**parameters, "zone": zone})


def _where(listing: Listing, account: str, filters: Filters) -> tuple[str, dict[str, str | int]]:
    parameters: dict[str, str | int] = {"account": account, "since": filters.since, "until": filters.until}
    parts = [
        "account_id = {account:String}",
        f"{listing.time} >= {_INSTANT % 'since'}",
        f"{listing.time} < {_INSTANT % 'until'}",
    ]
    for name in ("service", "outcome", "channel"):
        value = getattr(filters, name)
        if value:
            parts.append(f"{name} = {{{name}:String}}")
            parameters[name] = value
    return " AND ".join(parts), parameters
