"""Commands over HTTP: the same that the command line has; an owner may give those about his plan and his settings. Each
leaves a trace in the admin actions."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from pipeline.gateway.access import AccountInPath, Bills, Operates, account_in
from pipeline.gateway.audit import audited
from pipeline.gateway.commanding import command_id_of, obey
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import object_of
from pipeline.gateway.parts import parts_of
from schemas.base import GRANT_ID_PATTERN
from schemas.http_api import CommandAnswer

router: Final = APIRouter(prefix="/v1/accounts", tags=["Operators"])
GrantId = Annotated[str, Path(pattern=GRANT_ID_PATTERN)]


@router.post("", status_code=201)
async def open_account(request: Request, holder: Operates) -> CommandAnswer:
    """Open an account on a plan; its first monthly grant follows at once."""
    body = await object_of(request, parts_of(request).settings.gateway)
    account = account_in(body, holder)
    return await _command(request, holder, "open", account, body)


@router.post("/{account_id}/grants", status_code=201)
async def give_grant(request: Request, holder: Operates, account_id: AccountInPath) -> CommandAnswer:
    """Give credits to an account."""
    body = await object_of(request, parts_of(request).settings.gateway)
    return await _command(request, holder, "grant", account_id, body)


@router.post("/{account_id}/grants/{grant_id:path}/void")
async def void_grant(
    request: Request, holder: Operates, account_id: AccountInPath, grant_id: GrantId
) -> CommandAnswer:
    """Take back what is left of a grant. What was used stays used."""
    body = await object_of(request, parts_of(request).settings.gateway)
    return await _command(request, holder, "void_grant", account_id, {**body, "grant_id": grant_id})


@router.post("/{account_id}/plan")
async def change_plan(request: Request, holder: Bills, account_id: AccountInPath) -> CommandAnswer:
    """A larger plan counts at once, any other from the period's end. To cancel is to change to the free plan."""
    body = await object_of(request, parts_of(request).settings.gateway)
    return await _command(request, holder, "change_plan", account_id, body)


@router.patch("/{account_id}/settings")
async def configure(request: Request, holder: Bills, account_id: AccountInPath) -> CommandAnswer:
    """Change billing settings: overage, alert thresholds. What is not named stays as it is."""
    body = await object_of(request, parts_of(request).settings.gateway)
    return await _command(request, holder, "configure", account_id, body)


@router.post("/{account_id}/close")
async def close_account(request: Request, holder: Operates, account_id: AccountInPath) -> CommandAnswer:
    """Close an account for good: what is left is voided, holds are released, the period gets its statement."""
    body = await object_of(request, parts_of(request).settings.gateway)
    return await _command(request, holder, "close", account_id, body)


async def _command(
    request: Request, holder: Holder, name: str, account: str, data: dict[str, Any]
) -> CommandAnswer:
    parts, command_id = parts_of(request), command_id_of(request)
    async with audited(parts, request, holder, f"account.{name}", account=account, command_id=command_id):
        return await obey(parts, holder, name, account, data, command_id)
