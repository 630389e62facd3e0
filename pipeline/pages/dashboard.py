"""The dashboard: what is left, how the period goes, what was done last. It follows the account while it is open."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

import orjson
from fastapi import APIRouter, Response

from pipeline.client.origin import now
from pipeline.domain.instants import Instant, as_datetime
from pipeline.gateway.access import AccountInPath
from pipeline.pages import accounts, words
from pipeline.pages.burn_down import BurnDown, burn_down
from pipeline.pages.run_out import Standing, banners, used_and_base
from pipeline.pages.visits import PageRoute, Visit, Visiting, go_to

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
RECENT: Final = 10
REFRESH_MS: Final = 5000
"""What changes no balance, such as a refusal, is seen after so long."""
BAR_PERCENT_MIN: Final = 120
"""The bar's right end: there is room for the tick at 110."""


@router.get("/")
async def home(visit: Visiting) -> Response:
    """The first account that the visitor may see; a choice where there are several."""
    found = await visit.inside.get("/v1/accounts", limit=200)
    if len(found["accounts"]) == 1:
        return go_to(f"/accounts/{found['accounts'][0]}")
    return visit.page("accounts.html", account=None, prefix="", **found)


@router.get("/accounts")
async def choose(visit: Visiting, prefix: str = "") -> Response:
    """Accounts to choose from."""
    found = await visit.inside.get("/v1/accounts", limit=200, prefix=prefix)
    return visit.page("accounts.html", account=None, prefix=prefix, **found)


@router.get("/accounts/{account_id}")
async def dashboard(visit: Visiting, account_id: AccountInPath) -> Response:
    """The whole screen."""
    return visit.page("dashboard.html", **await _content(visit, account_id))


@router.get("/accounts/{account_id}/live")
async def live(visit: Visiting, account_id: AccountInPath, seen: str = "") -> Response:
    """What has changed since the mark that the page has seen; 204 when nothing has."""
    balance = await visit.inside.get(f"/v1/accounts/{account_id}/balance")
    mark, _, rest = seen.partition(".")
    at, _, was_complete = rest.partition(".")
    is_old = not at.isdecimal() or now() - int(at) > REFRESH_MS
    if mark == _mark(balance) and was_complete == "1" and not is_old:
        return Response(status_code=204)
    return visit.page("dashboard_live.html", **await _content(visit, account_id))


def _mark(balance: dict[str, Any]) -> str:
    return sha256(orjson.dumps(balance, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


async def _content(visit: Visit, account: str) -> dict[str, Any]:
    inside, zone, path = visit.inside, visit.session.zone, f"/v1/accounts/{account}"
    balance, found, fresh = await asyncio.gather(
        inside.get(f"{path}/balance"), accounts.plans(inside), accounts.freshness(inside, account)
    )
    plan = accounts.plan_of(found, balance["plan"])
    stored = await _stored(visit, account, balance) if fresh.state != "unknown" else None
    used, base = used_and_base(balance, plan)
    standing = Standing(
        balance=balance,
        plan=plan,
        used=used,
        base=base,
        reset=f"{words.local(balance['period_end'], zone):%-d %b %Y, %H:%M} ({zone})",
        last_denial=_last_denial(stored),
    )
    return {
        "account": account,
        "balance": balance,
        "plan": plan,
        "next_plan": accounts.plan_of(found, balance["next_plan"]),
        "standing": standing,
        "banners": banners(standing),
        "bar": bar(standing, balance["alert_thresholds"]),
        "fresh": fresh,
        "resets_in": max(0, _ms(balance["period_end"]) - now()),
        "seen": f"{_mark(balance)}.{now()}.{int(fresh.lag_ms == 0 and fresh.state == 'fresh')}",
        "stored": stored,
        "burn": None if stored is None else _burn(balance, stored["by_day"], zone),
    }


async def _stored(visit: Visit, account: str, balance: dict[str, Any]) -> dict[str, Any]:
    """What ClickHouse knows of the period."""
    inside, path = visit.inside, f"/v1/accounts/{account}/usage"
    period = {"from": balance["period_start"], "to": balance["period_end"], "tz": visit.session.zone}
    by_service, by_day, recent = await asyncio.gather(
        inside.get(f"{path}/totals", by="service", **period),
        inside.get(f"{path}/totals", by="day", **period),
        inside.get(path, limit=RECENT),
    )
    features = [
        {**each, "credits": Decimal(each["credits"])} for each in by_service["totals"] if each["metered"]
    ]
    most = max((each["credits"] for each in features), default=Decimal(0))
    total = sum((each["credits"] for each in features), Decimal(0))
    for each in features:
        each["share"] = words.percent(each["credits"], total)
        each["width"] = words.percent(each["credits"], most)
    features.sort(key=lambda each: -each["credits"])
    return {"features": features, "by_day": by_day["totals"], "recent": recent["items"]}


def _last_denial(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    newest: dict[str, Any] | None = stored["recent"][0] if stored and stored["recent"] else None
    return newest if newest and newest["outcome"] == "denied" else None


def _burn(balance: dict[str, Any], by_day: list[dict[str, Any]], zone: str) -> BurnDown:
    return burn_down(
        used={each["day"]: Decimal(each["credits"]) for each in by_day},
        left=Decimal(balance["posted"]),
        start=datetime.fromisoformat(balance["period_start"]).astimezone(UTC),
        end=datetime.fromisoformat(balance["period_end"]).astimezone(UTC),
        now=as_datetime(Instant(now())),
        zone=zone,
    )


def _ms(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp() * 1000)


def bar(standing: Standing, thresholds: list[int]) -> dict[str, Any]:
    """Where the bar's parts end, in percent of its width, with two places."""
    scale = Decimal(max(BAR_PERCENT_MIN, standing.percent + 5, *(each + 10 for each in thresholds or [0])))

    def at(share: Decimal) -> Decimal:
        return (share * 100 / scale).quantize(Decimal("0.01"))

    held = Decimal(standing.balance["held"])
    whole = standing.base or Decimal(1)
    used = at(standing.used * 100 / whole)
    return {
        "used": used,
        "held": min(at(held * 100 / whole), 100 - used),
        "full": at(Decimal(100)),
        "ticks": [(each, at(Decimal(each))) for each in thresholds],
    }
