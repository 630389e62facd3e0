"""Billing settings: plan and cycle, overage protection, automatic top-up, statements; who is told, and how it went.

Every form is one command of the gateway, under an `Idempotency-Key` made with the form: sent twice, obeyed once.
"""

import asyncio
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Response

from pipeline.gateway.access import AccountInPath
from pipeline.gateway.problems import ProblemError
from pipeline.pages import accounts
from pipeline.pages.inside import Inside
from pipeline.pages.visits import Form, PageRoute, Visit, Visiting, go_to

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
STATEMENTS: Final = 12
DELIVERIES: Final = 25
TOPUPS: Final = 10


@router.get("/accounts/{account_id}/billing")
async def billing(visit: Visiting, account_id: AccountInPath, saved: str = "") -> Response:
    """The screen."""
    return await _shown(visit, account_id, saved=bool(saved), webhook=None)


async def _shown(visit: Visit, account: str, *, saved: bool, webhook: dict[str, Any] | None) -> Response:
    inside, path = visit.inside, f"/v1/accounts/{account}"
    balance, plans, statements, topups, told = await asyncio.gather(
        inside.get(f"{path}/balance"),
        accounts.plans(inside),
        inside.get(f"{path}/statements", limit=STATEMENTS),
        inside.get(f"{path}/topups", limit=TOPUPS),
        _notifications(inside, account),
    )
    plan = accounts.plan_of(plans, balance["plan"])
    return visit.page(
        "billing.html",
        account=account,
        balance=balance,
        plan=plan,
        next_plan=accounts.plan_of(plans, balance["next_plan"]),
        plans=[
            {**each, "gives_more": Decimal(each["monthly_credits"]) > Decimal(plan["monthly_credits"])}
            for each in plans
        ],
        statements=statements["items"],
        topups=topups["items"],
        told=told,
        saved=saved,
        webhook=webhook,
    )


async def _notifications(inside: Inside, account: str) -> dict[str, Any] | None:
    """Recipients, webhooks and deliveries; None where the gateway has none of them."""
    path = f"/v1/accounts/{account}/notifications"
    try:
        found, deliveries = await asyncio.gather(
            inside.get(path), inside.get(f"{path}/deliveries", limit=DELIVERIES)
        )
    except ProblemError as problem:
        if problem.code == "not_found":
            return None
        raise
    return {**found, "deliveries": deliveries["items"]}


@router.get("/accounts/{account_id}/billing/plan/{plan}")
async def confirm_plan(visit: Visiting, account_id: AccountInPath, plan: str) -> Response:
    """What a change of plan means, before it is made."""
    balance, plans = await asyncio.gather(
        visit.inside.get(f"/v1/accounts/{account_id}/balance"), accounts.plans(visit.inside)
    )
    wanted = next((each for each in plans if each["plan"] == plan), None)
    if wanted is None:
        raise ProblemError("not_found", "expected one of the plans")
    own = accounts.plan_of(plans, balance["plan"])
    more = Decimal(wanted["monthly_credits"]) - Decimal(own["monthly_credits"])
    return visit.page(
        "confirm_plan.html", account=account_id, balance=balance, plan=own, wanted=wanted, more=more
    )


@router.post("/accounts/{account_id}/billing/plan/{plan}")
async def change_plan(visit: Visiting, account_id: AccountInPath, plan: str) -> Response:
    form = await visit.form()
    return await _command(visit, account_id, form, "POST", "plan", {"plan": plan})


@router.get("/accounts/{account_id}/billing/overage")
async def confirm_overage(visit: Visiting, account_id: AccountInPath, ceiling: str = "") -> Response:
    """What it means to turn the protection off, in plain words and in money."""
    balance, plans = await asyncio.gather(
        visit.inside.get(f"/v1/accounts/{account_id}/balance"), accounts.plans(visit.inside)
    )
    plan = accounts.plan_of(plans, balance["plan"])
    credits_ = _decimal(ceiling)
    price = plan["overage_price"]
    most = None if price is None else credits_ * Decimal(price)
    return visit.page(
        "confirm_overage.html", account=account_id, balance=balance, plan=plan, ceiling=ceiling, most=most
    )


@router.post("/accounts/{account_id}/billing/overage")
async def set_overage(visit: Visiting, account_id: AccountInPath) -> Response:
    """On again at once; off only with the tick that says that it is understood."""
    form = await visit.form()
    ceiling = form.optional("ceiling")
    if ceiling is not None and form.get("understood") != "on":
        raise ProblemError(
            "invalid_parameter", "expected the tick that you understand that overage costs money"
        )
    return await _command(visit, account_id, form, "PATCH", "settings", {"overage_ceiling": ceiling})


@router.post("/accounts/{account_id}/billing/top-up")
async def set_topup(visit: Visiting, account_id: AccountInPath) -> Response:
    """On, with a threshold, a pack and a cap; or off."""
    form = await visit.form()
    names = ("threshold", "pack", "credits_max_per_period")
    chosen = {name: form.get(name, "").strip() for name in names} if form.get("turn") == "on" else None
    return await _command(visit, account_id, form, "PATCH", "settings", {"auto_topup": chosen})


@router.post("/accounts/{account_id}/billing/recipients")
async def set_recipients(visit: Visiting, account_id: AccountInPath) -> Response:
    form = await visit.form()
    body = {
        "recipients": form.get("recipients", "").replace(",", " ").split(),
        "language": form.get("language", "en"),
        "time_zone": form.get("time_zone", "UTC"),
    }
    await visit.inside.send("PUT", f"/v1/accounts/{account_id}/notifications", body)
    return go_to(f"/accounts/{account_id}/billing?saved=1#notifications")


@router.post("/accounts/{account_id}/billing/webhooks")
async def create_webhook(visit: Visiting, account_id: AccountInPath) -> Response:
    """The answer shows the secret, this once: it is no redirect."""
    form = await visit.form()
    body = {"url": form.get("url", "").strip(), "description": form.get("description", "").strip()}
    made = await visit.inside.send("POST", f"/v1/accounts/{account_id}/notifications/webhooks", body)
    return await _shown(visit, account_id, saved=False, webhook=made)


@router.post("/accounts/{account_id}/billing/webhooks/{endpoint_id}/rotate")
async def rotate_webhook(visit: Visiting, account_id: AccountInPath, endpoint_id: str) -> Response:
    await visit.form()
    path = f"/v1/accounts/{account_id}/notifications/webhooks/{endpoint_id}/rotate"
    return await _shown(visit, account_id, saved=False, webhook=await visit.inside.send("POST", path, {}))


@router.post("/accounts/{account_id}/billing/webhooks/{endpoint_id}/delete")
async def delete_webhook(visit: Visiting, account_id: AccountInPath, endpoint_id: str) -> Response:
    await visit.form()
    path = f"/v1/accounts/{account_id}/notifications/webhooks/{endpoint_id}"
    await visit.inside.send("DELETE", path, {})
    return go_to(f"/accounts/{account_id}/billing?saved=1#notifications")


@router.post("/accounts/{account_id}/billing/test")
async def send_test(visit: Visiting, account_id: AccountInPath) -> Response:
    await visit.form()
    await visit.inside.send("POST", f"/v1/accounts/{account_id}/notifications/test", {})
    return go_to(f"/accounts/{account_id}/billing?saved=1#notifications")


@router.post("/accounts/{account_id}/billing/deliveries/{delivery_id}/redeliver")
async def redeliver(visit: Visiting, account_id: AccountInPath, delivery_id: str) -> Response:
    await visit.form()
    path = f"/v1/accounts/{account_id}/notifications/deliveries/{delivery_id}/redeliver"
    await visit.inside.send("POST", path, {})
    return go_to(f"/accounts/{account_id}/billing?saved=1#notifications")


async def _command(
    visit: Visit, account: str, form: Form, method: str, what: str, body: dict[str, Any]
) -> Response:
    path = f"/v1/accounts/{account}/{what}"
    await visit.inside.send(method, path, body, idempotency_key=form.get("command_id", ""))
    return go_to(f"/accounts/{account}/billing?saved=1")


def _decimal(text: str) -> Decimal:
    """A plain amount. Raises `invalid_parameter`."""
    if not (text.replace(".", "", 1).isdecimal() and len(text) <= 19):
        raise ProblemError("invalid_parameter", "expected a number of credits such as 200 as the ceiling")
    return Decimal(text)
