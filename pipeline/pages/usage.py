"""Usage data: what was used, by whom it was charged, as chart, table and file. The address holds every filter."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from pipeline.client.origin import now
from pipeline.domain.instants import Instant, as_datetime
from pipeline.gateway.access import AccountInPath
from pipeline.gateway.cursors import CURSOR_LENGTH_MAX
from pipeline.gateway.exports import Format
from pipeline.gateway.times import zone_of
from pipeline.pages import accounts, words
from pipeline.pages.inside import PassedOn
from pipeline.pages.visits import PageRoute, Visit, Visiting
from schemas.base import Channel, Service
from schemas.metered_record import UsageOutcome

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
Range = Literal["period", "previous", "7d", "30d", "90d", "all", "custom"]
Unit = Literal["day", "hour"]
RANGES: Final[dict[Range, str]] = {
    "period": "This period",
    "previous": "Previous period",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "all": "Everything",
    "custom": "From … to …",
}
PAGE_ROWS: Final = 50
Empty = Literal[""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The filters as the address has them; empty: any."""

    range: Range
    since: str
    until: str
    service: str
    outcome: str
    channel: str
    unit: Unit
    tz: str

    def address(self, **other: str) -> str:
        """Of this choice, with something changed."""
        given = {
            "range": self.range, "from": self.since if self.range == "custom" else "",
            "to": self.until if self.range == "custom" else "", "service": self.service, "outcome": self.outcome,
            "channel": self.channel, "unit": self.unit, "tz": self.tz, **other,
        }  # fmt: skip
        return urlencode({name: value for name, value in given.items() if value})

    def query(self) -> dict[str, str]:
        """As the gateway's endpoints take it."""
        return {
            "from": self.since, "to": self.until, "service": self.service, "outcome": self.outcome,
            "channel": self.channel, "tz": self.tz,
        }  # fmt: skip


class Asked(BaseModel):
    """The address, as it comes."""

    range: Range = "period"
    since: Annotated[str, Field(alias="from", max_length=64)] = ""
    until: Annotated[str, Field(alias="to", max_length=64)] = ""
    service: Service | Empty = ""
    outcome: UsageOutcome | Empty = ""
    channel: Channel | Empty = ""
    unit: Unit = "day"
    tz: Annotated[str, Field(max_length=64)] = ""


async def wanted(visit: Visiting, account_id: AccountInPath, asked: Annotated[Asked, Query()]) -> Wanted:
    """The address's choice, its range made exact."""
    zone = asked.tz or visit.session.zone
    zone_of(zone)
    since, until = asked.since, asked.until
    if asked.range != "custom":
        since, until = await _bounds(visit, account_id, asked.range, zone)
    return Wanted(
        range=asked.range,
        since=since,
        until=until,
        service=asked.service,
        outcome=asked.outcome,
        channel=asked.channel,
        unit=asked.unit,
        tz=zone,
    )


async def _bounds(visit: Visit, account: str, chosen: Range, zone: str) -> tuple[str, str]:
    path = f"/v1/accounts/{account}"
    if chosen == "period":
        balance = await visit.inside.get(f"{path}/balance")
        return balance["period_start"], balance["period_end"]
    if chosen == "previous":
        closed = (await visit.inside.get(f"{path}/statements", limit=1))["items"]
        balance = await visit.inside.get(f"{path}/balance")
        return (
            (closed[0]["period_start"], closed[0]["period_end"]) if closed else (balance["period_start"],) * 2
        )
    if chosen == "all":
        return "", ""
    today = as_datetime(Instant(now())).astimezone(ZoneInfo(zone)).date()
    return str(today - timedelta(days=int(chosen.removesuffix("d")) - 1)), ""


Chosen = Annotated[Wanted, Depends(wanted)]


@router.get("/accounts/{account_id}/usage")
async def usage(
    visit: Visiting,
    account_id: AccountInPath,
    chosen: Chosen,
    cursor: Annotated[str, Query(max_length=CURSOR_LENGTH_MAX)] = "",
) -> Response:
    """The screen."""
    inside, path, query = visit.inside, f"/v1/accounts/{account_id}", chosen.query()
    balance, split, totals, listed, fresh = await asyncio.gather(
        inside.get(f"{path}/balance"),
        inside.get(f"{path}/usage/totals", by=f"service_by_{chosen.unit}", **query),
        inside.get(f"{path}/usage/totals", by="service", **query),
        inside.get(f"{path}/usage", limit=PAGE_ROWS, cursor=cursor, **query),
        accounts.freshness(inside, account_id),
    )
    return visit.page(
        "usage.html",
        account=account_id,
        chosen=chosen,
        zone=chosen.tz,
        ranges=RANGES,
        services=words.SERVICES,
        outcomes=words.OUTCOMES,
        channels=get_args(Channel),
        balance=balance,
        totals=totals["totals"],
        sums=_sums(totals["totals"]),
        stacked=stacked(split["totals"], chosen.unit),
        items=listed["items"],
        cursor=cursor,
        next_cursor=listed["next_cursor"],
        fresh=fresh,
    )


def _sums(totals: list[dict[str, Any]]) -> dict[str, Any]:
    counts = ("metered", "denied", "duplicates", "corrections", "images")
    return {
        "credits": sum((Decimal(each["credits"]) for each in totals), Decimal(0)),
        **{name: sum(each[name] for each in totals) for name in counts},
    }


@dataclass(frozen=True, slots=True)
class Stacked:
    """Credits by day or hour and service: rows of the table, bars of the chart."""

    services: list[str]
    rows: list[tuple[str, list[Decimal], Decimal]]
    """Slot, credits of each service in their order, sum."""


def stacked(totals: list[dict[str, Any]], unit: Unit) -> Stacked:
    """The totals as a table. Slots without usage have no row."""
    services = [each for each in words.SERVICES if any(row["service"] == each for row in totals)]
    slots: dict[str, dict[str, Decimal]] = {}
    for row in totals:
        slots.setdefault(row[unit], {})[row["service"]] = Decimal(row["credits"])
    rows = [
        (slot, [found.get(each, Decimal(0)) for each in services], sum(found.values(), Decimal(0)))
        for slot, found in sorted(slots.items())
    ]
    return Stacked(services, rows)


@router.get("/accounts/{account_id}/usage/download")
async def download(
    visit: Visiting,
    account_id: AccountInPath,
    chosen: Chosen,
    form: Annotated[Format, Query(alias="format")] = "json",
) -> Response:
    """Exactly what the same address shows on screen, as a file: the gateway's own export."""
    path = f"/v1/accounts/{account_id}/usage/export"
    return PassedOn(visit.inside, path, {**chosen.query(), "format": form})


@router.get("/accounts/{account_id}/charges/{event_id:path}")
async def receipt(visit: Visiting, account_id: AccountInPath, event_id: str) -> Response:
    """Why one charge is what it is."""
    found = await visit.inside.get(f"/v1/accounts/{account_id}/charges/{event_id}")
    return visit.page("receipt.html", account=account_id, event_id=event_id, **found)
