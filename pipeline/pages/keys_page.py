"""API keys: made and shown once, listed, revoked."""

from typing import Any, Final, get_args

from fastapi import APIRouter, Response

from pipeline.pages.visits import PageRoute, Visit, Visiting, go_to
from schemas.http_api import Scope

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
SCOPES: Final[dict[Scope, str]] = {
    "ingest": "publish usage",
    "hold": "set credits aside, charge or release them",
    "read": "balances, usage, statements",
    "billing": "plan, overage, top-up, alerts, who is told, keys",
    "admin": "everything an operator does: accounts, grants, corrections; never of a key that is bound to accounts",
}
assert set(SCOPES) == set(get_args(Scope)), "each scope has its words"


@router.get("/keys")
async def keys(visit: Visiting) -> Response:
    """The screen."""
    return await _shown(visit, None)


@router.post("/keys")
async def create(visit: Visiting) -> Response:
    """The answer shows the key, this once: it is no redirect."""
    form = await visit.form()
    accounts = form.get("accounts", "").replace(",", " ").split()
    body: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "scopes": form.lists.get("scopes", []),
        "accounts": accounts or (sorted(visit.holder.accounts) if visit.holder.accounts else None),
    }
    return await _shown(visit, await visit.inside.send("POST", "/v1/keys", body))


@router.post("/keys/{key_id}/revoke")
async def revoke(visit: Visiting, key_id: str) -> Response:
    await visit.form()
    await visit.inside.send("POST", f"/v1/keys/{key_id}/revoke", {})
    return go_to("/keys")


async def _shown(visit: Visit, made: dict[str, Any] | None) -> Response:
    found = await visit.inside.get("/v1/keys")
    return visit.page(
        "keys.html",
        account=None,
        keys=list(reversed(found["keys"])),
        made=made,
        scopes={name: text for name, text in SCOPES.items() if visit.holder.may(name)},
    )
