"""Credits: grants in burn order, the ledger, and what something would cost."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from pipeline.gateway.access import AccountInPath
from pipeline.gateway.cursors import CURSOR_LENGTH_MAX
from pipeline.gateway.problems import ProblemError
from pipeline.pages import accounts, words
from pipeline.pages.visits import PageRoute, Visit, Visiting

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
LEDGER_ROWS: Final = 50
NUMBERS: Final = ("images", "width", "height", "input_width", "input_height", "output_width", "output_height")
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "image_generation": ("quality", "width", "height", "transparent_background"),
    "background_removal": ("transparent_background",),
    "image_analysis": (),
    "upscaling": ("input_width", "input_height", "scale"),
    "post_processing": ("output_width", "output_height"),
    "transparent_background": (),
}
"""What the estimator asks of each service, beside the number of images."""


@router.get("/accounts/{account_id}/credits")
async def credits_page(
    request: Request,
    visit: Visiting,
    account_id: AccountInPath,
    cursor: Annotated[str, Query(max_length=CURSOR_LENGTH_MAX)] = "",
) -> Response:
    """The screen. The estimator is a form that asks by GET: its address can be kept."""
    inside, path = visit.inside, f"/v1/accounts/{account_id}"
    balance, ledger, fresh, estimate = await asyncio.gather(
        inside.get(f"{path}/balance"),
        inside.get(f"{path}/ledger", limit=LEDGER_ROWS, cursor=cursor),
        accounts.freshness(inside, account_id),
        estimated(visit, dict(request.query_params)),
    )
    return visit.page(
        "credits.html",
        account=account_id,
        balance=balance,
        entries=ledger["items"],
        cursor=cursor,
        next_cursor=ledger["next_cursor"],
        fresh=fresh,
        services=words.SERVICES,
        fields=FIELDS,
        asked=dict(request.query_params),
        estimate=estimate,
    )


async def estimated(visit: Visit, asked: dict[str, str]) -> dict[str, Any] | None:
    """The gateway's estimate of what the form asks; None when it asks nothing."""
    service = asked.get("service", "")
    if service not in FIELDS:
        return None
    data: dict[str, Any] = {}
    for name in ("images", *FIELDS[service]):
        value = asked.get(name, "").strip()
        if value:
            data[name] = _value(name, value)
    try:
        answer = await visit.inside.send(
            "POST", "/v1/estimate", {"usages": [{"type": service, "data": data}]}
        )
    except ProblemError as problem:
        return {"credits": None, "detail": problem.detail, "pointer": ""}
    item: dict[str, Any] = answer["items"][0]
    return item


def _value(name: str, text: str) -> object:
    """As JSON has it. What is no number stays text, and the gateway says what it expected."""
    if name == "transparent_background":
        return text == "on"
    if name in NUMBERS and text.isdecimal() and len(text) <= 9:
        return int(text)
    if name == "scale" and text.replace(".", "", 1).isdecimal() and len(text) <= 9:
        return (
            int(text) if text.isdecimal() else float(text)
        )  # A factor, no amount: JSON has no other number.
    return text
