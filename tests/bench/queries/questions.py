"""What is asked, as the product asks it: the gateway's own functions for an account, the texts of boards and samples.

Beside each stands a naive way to the same rows: of an account the same text with the account hidden from the sort key
(`identity`, which ClickHouse has for that), of the fleet the records themselves instead of what was added up from them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from pipeline.clickhouse import Client
from pipeline.query import accounts, explanation, pages, stored
from pipeline.query.pages import Filters, Listing
from pipeline.query.rows import rows
from tests.asked import SAMPLES, board_questions, expanded
from tests.bench.queries.fill import DAY_MS, Fleet

ZONE: Final = "Europe/Berlin"
MONTH_DAYS: Final = 30
BOARD_INTERVAL_SECONDS: Final = 43_200
"""Of a bar, for thirty days on a panel of usual width."""
FLEET: Final = (
    "the fleet's month by service",
    "credits by service and day",
    "the largest accounts of a month, from the settled rollup that bills are made from",
)
"""Of the samples, what is asked about everybody."""
NAIVELY: Final[Mapping[str, str]] = {
    "usage_hourly_v1": "(SELECT toStartOfHour(accepted_at) AS hour, service, channel, outcome, reason, 1 AS records, "
    "images, credits, rated_credits FROM metered_records_v1)",
    "ledger_hourly_v1": "(SELECT toStartOfHour(booked_at) AS hour, kind, 1 AS entries, credits FROM ledger_entries_v1)",
    **dict.fromkeys(
        ("usage_account_daily_v1", "usage_daily_settled_v1"),
        "(SELECT toDate(accepted_at) AS day, account_id, outcome, 1 AS records, images, credits "
        "FROM metered_records_v1)",
    ),
    "account_id IN (": "identity(account_id) IN (",
}
HIDDEN: Final = ("account_id = {account:String}", "identity(account_id) = {account:String}")
Rows = list[dict[str, Any]]


class Subject(NamedTuple):
    """Whom a question is about."""

    account: str
    event_id: str


Ask = Callable[[Client, Subject], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing that is asked, and the naive way to the same answer."""

    name: str
    title: str
    group: str
    """`account`, `board` or `fleet`: which goal it has."""
    ask: Ask
    naive: Ask | None = None


class _Unsorted:
    """A client whose server finds an account's rows by looking at all."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def raw_query(self, sql: str, **options: Any) -> Any:
        return self._client.raw_query(sql.replace(*HIDDEN), **options)


def questions(fleet: Fleet, chosen: Sequence[str]) -> list[Question]:
    """All of them; `chosen` are the accounts that somebody has picked on the board."""
    return [*_of_account(fleet), *_of_boards(chosen), *_of_fleet()]


def _of_account(fleet: Fleet) -> Iterator[Question]:
    period = Filters(
        since=_instant(fleet.until_ms - MONTH_DAYS * DAY_MS), until=_instant(fleet.until_ms + DAY_MS)
    )

    def totals(by: pages.UsageBy) -> Ask:
        return lambda client, of: pages.usage_totals(client, of.account, period, by=by, zone=ZONE)

    def page(listing: Listing, filters: Filters, limit: int) -> Ask:
        return lambda client, of: pages.page(client, listing, of.account, filters, after=None, limit=limit)

    everything = Filters()
    asks: Mapping[str, Ask] = {
        "balance": lambda client, of: accounts.balance(client, of.account),
        "month by service": totals("service"),
        "month by day": totals("day"),
        "month by service and day": totals("service_by_day"),
        "last 10 records": page(pages.RECORDS, everything, 11),
        "last 100 records": page(pages.RECORDS, everything, 101),
        "page of the month's records": page(pages.RECORDS, period, 51),
        "page of the ledger": page(pages.ENTRIES, everything, 101),
        "statements": page(pages.STATEMENTS, everything, 101),
        "alerts": page(pages.ALERTS, everything, 101),
        "explain a charge": lambda client, of: explanation.explain(client, of.event_id, account=of.account),
    }
    for title, ask in asks.items():
        yield Question(name=title, title=f"account: {title}", group="account", ask=ask, naive=_hidden(ask))
    yield Question(
        name="freshness",
        title="account: how far all is stored",
        group="account",
        ask=lambda client, _: stored.balances_reached(client),
    )


def _hidden(ask: Ask) -> Ask:
    return lambda client, of: ask(cast("Client", _Unsorted(client)), of)


def _of_boards(chosen: Sequence[str]) -> Iterator[Question]:
    for place, sql in board_questions():
        asked = expanded(sql, chosen, days=MONTH_DAYS, interval_seconds=BOARD_INTERVAL_SECONDS)
        yield Question(
            name=place, title=f"board {place}", group="board", ask=_text(asked), naive=_naive(asked)
        )  # fmt: skip


def _of_fleet() -> Iterator[Question]:
    for name in FLEET:
        sql = SAMPLES[name].strip().rstrip(";")
        yield Question(name=name, title=f"fleet: {name}", group="fleet", ask=_text(sql), naive=_naive(sql))


def _naive(sql: str) -> Ask | None:
    """The same text on the records themselves; None where there is no difference."""
    naive = sql
    for view, records in NAIVELY.items():
        naive = naive.replace(view, records)
    return None if naive == sql else _text(naive)


def _text(sql: str) -> Ask:
    return lambda client, _: rows(client, sql)


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
