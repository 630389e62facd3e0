"""`/v1/accounts/{account_id}/…`: what an account holds and what it used. Instants of lists are in UTC, of exports in
the asked time zone.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import astuple, dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from pipeline.clickhouse import Client
from pipeline.client.origin import now_text
from pipeline.domain.instants import Instant, as_datetime
from pipeline.gateway import cursors, exports
from pipeline.gateway.access import AccountInPath, allowed
from pipeline.gateway.freshness import Freshness
from pipeline.gateway.json_answers import json_answer
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.gateway.times import utc_of, zone_of
from pipeline.query import accounts, explanation, pages
from pipeline.query.pages import Filters, Listing, UsageBy
from schemas.base import Channel, Service
from schemas.http_api import (
    AlertsPage,
    BalanceAnswer,
    ChargeAnswer,
    FreshnessAnswer,
    LedgerPage,
    StatementsPage,
    TopupsPage,
    UsagePage,
    UsageTotalsAnswer,
)
from schemas.metered_record import UsageOutcome

router: Final = APIRouter(
    prefix="/v1/accounts/{account_id}", tags=["Accounts"], dependencies=[Depends(allowed("read"))]
)

From = Annotated[
    str | None, Query(alias="from", max_length=64, description="Accepted from here on: instant or date")
]
To = Annotated[str | None, Query(max_length=64, description="Accepted before this: instant or date")]
Zone = Annotated[str, Query(max_length=64, description="IANA time zone of dates, days and exports")]
Cursor = Annotated[
    str | None, Query(max_length=cursors.CURSOR_LENGTH_MAX, description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=10_000)]
LIMIT_DEFAULT: Final = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of a request, and its time zone."""

    filters: Filters
    zone: str


async def in_time(since: From = None, to: To = None, tz: Zone = "UTC") -> Asked:
    """Of every list."""
    zone = zone_of(tz)
    return Asked(
        Filters(
            since=utc_of(since, zone, "from") if since is not None else accounts.BEGINNING,
            until=utc_of(to, zone, "to") if to is not None else accounts.END,
        ),
        tz,
    )


async def of_usage(
    asked: Annotated[Asked, Depends(in_time)],
    service: Service | None = None,
    outcome: UsageOutcome | None = None,
    channel: Channel | None = None,
) -> Asked:
    """Of usage too."""
    filters = Filters(
        since=asked.filters.since,
        until=asked.filters.until,
        service=service or "",
        outcome=outcome or "",
        channel=channel or "",
    )
    return Asked(filters, asked.zone)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page of a list."""

    cursor: str | None
    limit: int


async def wanted(cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT) -> Wanted:
    """Of every list."""
    return Wanted(cursor, limit)


InPage = Annotated[Wanted, Depends(wanted)]
InTime = Annotated[Asked, Depends(in_time)]
OfUsage = Annotated[Asked, Depends(of_usage)]


@router.get("/balance", response_model=BalanceAnswer)
async def balance(request: Request, account_id: AccountInPath) -> Response:
    """The balance with its grants in burn order. It shows whatever was answered before it was asked for."""
    return json_answer(await balance_of(parts_of(request), account_id))


@router.get("/freshness")
async def freshness(request: Request, account_id: AccountInPath) -> FreshnessAnswer:
    """How far what stands in lists, totals and exports is behind the balance."""
    parts = parts_of(request)
    return freshness_answer(await parts.freshness.of(parts.views.partition_of(account_id)))


@router.get("/usage", response_model=UsagePage)
async def usage(request: Request, account_id: AccountInPath, asked: OfUsage, page: InPage) -> Response:
    """Usage events with what became of them, the newest first. About a second behind the balance."""
    return json_answer(await page_of(parts_of(request), pages.RECORDS, account_id, asked.filters, page))


@router.get("/usage/totals", response_model=UsageTotalsAnswer)
async def usage_totals(
    request: Request,
    account_id: AccountInPath,
    asked: OfUsage,
    by: UsageBy = "service",
) -> Response:
    """What was used by service, by day or hour of the time zone, or by service in each of these."""
    found = await parts_of(request).store.ask(
        lambda client: pages.usage_totals(client, account_id, asked.filters, by=by, zone=asked.zone)
    )
    return json_answer({"account_id": account_id, "by": by, "time_zone": asked.zone, "totals": found})


@router.get("/usage/export")
async def export_usage(
    request: Request,
    account_id: AccountInPath,
    asked: OfUsage,
    form: Annotated[exports.Format, Query(alias="format")] = "json",
) -> Response:
    """All usage that the filters let through as a file, the oldest first: JSON (`usage_export.v1`), NDJSON or CSV."""
    filters, zone = asked.filters, asked.zone
    parts = parts_of(request)
    versions = await parts.schedule.now()

    def pieces_of(client: Client) -> Generator[bytes, None, None]:
        source = exports.export_source(
            client,
            account_id,
            filters,
            zone,
            generated_at=now_text(),
            book_hash=versions.book_hashes.get,
        )
        return exports.written(source, form)

    pieces = parts.store.stream(pieces_of)
    # What goes wrong at once is still a problem, not a file that was cut off.
    first = await anext(pieces, b"")

    async def file() -> AsyncGenerator[bytes, None]:
        async with asyncio.timeout(parts.settings.gateway.export_seconds_max), aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    name = {"Content-Disposition": f'attachment; filename="usage.{form}"'}
    return StreamingResponse(file(), media_type=exports.MEDIA_TYPES[form], headers=name)


@router.get("/ledger", response_model=LedgerPage)
async def ledger(request: Request, account_id: AccountInPath, asked: InTime, page: InPage) -> Response:
    """Every signed change of the account's credits, the newest first, numbered and chained."""
    return json_answer(await page_of(parts_of(request), pages.ENTRIES, account_id, asked.filters, page))


@router.get("/statements", response_model=StatementsPage)
async def statements(request: Request, account_id: AccountInPath, asked: InTime, page: InPage) -> Response:
    """Closed periods, the newest first. A statement never changes."""
    return json_answer(await page_of(parts_of(request), pages.STATEMENTS, account_id, asked.filters, page))


@router.get("/alerts", response_model=AlertsPage)
async def alerts(request: Request, account_id: AccountInPath, asked: InTime, page: InPage) -> Response:
    """Alerts, the newest first."""
    return json_answer(await page_of(parts_of(request), pages.ALERTS, account_id, asked.filters, page))


@router.get("/topups", response_model=TopupsPage)
async def topups(request: Request, account_id: AccountInPath, asked: InTime, page: InPage) -> Response:
    """Top-up orders, the newest first."""
    return json_answer(await page_of(parts_of(request), pages.TOPUPS, account_id, asked.filters, page))


@router.get("/charges/{event_id:path}", response_model=ChargeAnswer)
async def charge(request: Request, account_id: AccountInPath, event_id: str) -> Response:
    """Why an event cost what it cost: its records with their receipts, ledger entries, dead letters."""
    found = await parts_of(request).store.ask(
        lambda client: explanation.explain(client, event_id, account=account_id)
    )
    if found.is_empty():
        raise ProblemError("unknown_charge", "nothing is known of this event (it is about a second behind)")
    return json_answer(
        {
            "metered_records": found.metered,
            "dead_letters": found.dead_letters,
            "ledger_entries": found.entries,
        }
    )


async def balance_of(parts: Parts, account: str) -> dict[str, Any]:
    """As `BalanceAnswer` says. Raises `unknown_account`."""
    seen = await parts.views.balance(account)
    found = seen.balance or await parts.store.ask(lambda client: accounts.balance(client, account))
    if found is None:
        raise ProblemError("unknown_account", f"there is no account {account!r}")
    return {**{name: found[name] for name in _BALANCE}, "is_behind": seen.is_behind}


def freshness_answer(found: Freshness) -> FreshnessAnswer:
    return FreshnessAnswer(
        as_of=as_datetime(Instant(found.as_of)), lag_ms=found.lag_ms, is_stale=found.is_stale
    )


_BALANCE: Final = [name for name in BalanceAnswer.model_fields if name != "is_behind"]


async def page_of(
    parts: Parts, listing: Listing, account: str, filters: Filters, wanted: Wanted
) -> dict[str, Any]:
    """A page: `items`, and `next_cursor` if there are more."""
    limit = min(wanted.limit, parts.settings.gateway.page_rows_max)
    about = (listing.view, account, *astuple(filters))
    after = None if wanted.cursor is None else cursors.read(parts.signing, wanted.cursor, *about)
    found = await parts.store.ask(
        lambda client: pages.page(client, listing, account, filters, after=after, limit=limit + 1)
    )
    items = found[:limit]
    more = len(found) > limit
    following = cursors.written(parts.signing, pages.place_of(listing, items[-1]), *about) if more else None
    return {"items": items, "next_cursor": following}
