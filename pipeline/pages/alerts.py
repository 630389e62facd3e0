"""Alerts: at how many percent, how far each is in this period, and what was sent before."""

import asyncio
import re
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Response

from pipeline.gateway.access import AccountInPath
from pipeline.gateway.problems import ProblemError
from pipeline.pages import accounts
from pipeline.pages.run_out import used_and_base
from pipeline.pages.visits import PageRoute, Visiting, go_to

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
SHOWN: Final = 50
_NUMBER: Final = re.compile(r"[0-9]{1,4}")


@router.get("/accounts/{account_id}/alerts")
async def alerts(visit: Visiting, account_id: AccountInPath, saved: str = "") -> Response:
    """The screen."""
    inside, path = visit.inside, f"/v1/accounts/{account_id}"
    balance, found, plans, fresh = await asyncio.gather(
        inside.get(f"{path}/balance"),
        inside.get(f"{path}/alerts", limit=SHOWN),
        accounts.plans(inside),
        accounts.freshness(inside, account_id),
    )
    used, base = used_and_base(balance, accounts.plan_of(plans, balance["plan"]))
    return visit.page(
        "alerts.html",
        account=account_id,
        balance=balance,
        alerts=found["items"],
        states=[_state(each, balance, found["items"], used, base) for each in balance["alert_thresholds"]],
        fresh=fresh,
        saved=bool(saved),
    )


def _state(
    threshold: int, balance: dict[str, Any], sent: list[dict[str, Any]], used: Decimal, base: Decimal
) -> dict[str, Any]:
    """How far a threshold is in this period. A jump past several sends the highest: the lower ones are passed."""
    now = [each for each in sent if each["period_start"] == balance["period_start"] and each["threshold"]]
    own = next((each for each in now if each["threshold"] == threshold), None)
    at = (base * threshold / 100).quantize(Decimal("0.01"))
    is_passed = any(each["threshold"] > threshold for each in now)
    return {
        "threshold": threshold,
        "at": at,
        "sent_at": None if own is None else own["accepted_at"],
        "is_passed": own is None and is_passed,
        "missing": max(Decimal(0), at - used),
    }


@router.post("/accounts/{account_id}/alerts")
async def set_thresholds(visit: Visiting, account_id: AccountInPath) -> Response:
    """Other thresholds. What they mean is for the gateway to judge."""
    form = await visit.form()
    texts = form.get("thresholds", "").replace("%", " ").replace(",", " ").split()
    if not all(_NUMBER.fullmatch(each) for each in texts):
        raise ProblemError("invalid_parameter", "expected whole percentages such as 80, 100, 110")
    chosen = sorted({int(each) for each in texts})
    await visit.inside.send(
        "PATCH",
        f"/v1/accounts/{account_id}/settings",
        {"alert_thresholds": chosen},
        idempotency_key=form.get("command_id", ""),
    )
    return go_to(f"/accounts/{account_id}/alerts?saved=1")
