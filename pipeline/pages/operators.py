"""For operators: how the pipeline runs, and what could not be metered, to mend and put back."""

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Response

from pipeline.gateway.problems import ProblemError
from pipeline.pages.visits import PageRoute, Visit, Visiting

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/pipeline")
async def pipeline(visit: Visiting) -> Response:
    """The screen. It asks again every second while it is open."""
    return visit.page("pipeline.html", account=None, **await _figures(visit))


@router.get("/pipeline/live")
async def pipeline_live(visit: Visiting) -> Response:
    return visit.page("pipeline_live.html", account=None, **await _figures(visit))


async def _figures(visit: Visit) -> dict[str, Any]:
    found = await visit.inside.get("/v1/pipeline")
    behind = sum(max(0, each["newest"] - each["stored"]) for each in found["partitions"])
    return {**found, "behind": behind}


@router.get("/dead-letters")
async def dead_letters(
    visit: Visiting,
    by_account: Annotated[str, Query(alias="account", max_length=128)] = "",
    reason: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The list."""
    found = await visit.inside.get("/v1/dead-letters", account=by_account, reason=reason)
    return visit.page("dead_letters.html", account=None, by_account=by_account, reason=reason, **found)


@router.get("/dead-letters/{partition}/{offset}")
async def dead_letter(visit: Visiting, partition: int, offset: int) -> Response:
    """One letter, with its event to mend."""
    return await _shown(visit, partition, offset, text=None, said=None)


@router.post("/dead-letters/{partition}/{offset}")
async def replay(visit: Visiting, partition: int, offset: int) -> Response:
    """Try it, or put it back. What is wrong with it is said beside the text, which stays as it was typed."""
    form = await visit.form()
    text = form.get("event", "")
    try:
        body = {"event": _event(text), "dry_run": form.get("do") != "replay"}
        answer = await visit.inside.send("POST", f"/v1/dead-letters/{partition}/{offset}/replay", body)
    except ProblemError as problem:
        said = {"tone": "stop", "title": "This cannot be put back", "text": problem.detail}
    else:
        said = (
            {"tone": "good", "title": "It could be put back", "text": "Nothing was changed yet."}
            if answer["command"] is None
            else {
                "tone": "good",
                "title": "Put back",
                "text": f"Event {answer['event_id']} of {answer['account_id']}.",
            }
        )
    return await _shown(visit, partition, offset, text=text, said=said)


async def _shown(
    visit: Visit, partition: int, offset: int, *, text: str | None, said: dict[str, str] | None
) -> Response:
    letter = await visit.inside.get(f"/v1/dead-letters/{partition}/{offset}")
    if text is None:
        text = letter["payload"] if letter["event"] is None else _pretty(letter["event"])
    return visit.page("dead_letter.html", account=None, letter=letter, text=text, said=said)


def _pretty(event: object) -> str:
    return orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()


def _event(text: str) -> object:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise ProblemError("malformed_json", f"expected a CloudEvent as JSON: {error}") from error
