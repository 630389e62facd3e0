"""`/v1/holds`: credits set aside before the work, charged for what was done, or given back."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from pipeline.gateway.access import Holds, account_in
from pipeline.gateway.commanding import command_id_of, obey
from pipeline.gateway.limits import object_of
from pipeline.gateway.parts import parts_of
from schemas.base import GRANT_ID_PATTERN
from schemas.http_api import CommandAnswer

router: Final = APIRouter(prefix="/v1/holds", tags=["Holds"])
HoldId = Annotated[str, Path(pattern=GRANT_ID_PATTERN)]


@router.post("", status_code=201)
async def place_hold(request: Request, holder: Holds) -> CommandAnswer:
    """Set credits aside, or hear what is missing (402). However many ask at once, exactly those that fit pass."""
    return await _command(request, holder, "hold", {})


@router.post("/{hold_id:path}/capture")
async def capture_hold(request: Request, holder: Holds, hold_id: HoldId) -> CommandAnswer:
    """Charge what was done, at the hold's prices and at most what it holds. The rest goes back."""
    return await _command(request, holder, "capture", {"hold_id": hold_id})


@router.post("/{hold_id:path}/release")
async def release_hold(request: Request, holder: Holds, hold_id: HoldId) -> CommandAnswer:
    """Give everything back to the grants that it came from."""
    return await _command(request, holder, "release", {"hold_id": hold_id})


async def _command(request: Request, holder: Holds, name: str, data: dict[str, Any]) -> CommandAnswer:
    parts = parts_of(request)
    body = await object_of(request, parts.settings.gateway)
    account = account_in(body, holder)
    # What the path says wins: a body cannot name another hold.
    return await obey(parts, holder, name, account, {**body, **data}, command_id_of(request))
