"""Signing in with a link or an API key, signing out, and what a visitor prefers."""

import re
from dataclasses import replace
from typing import Final

from fastapi import APIRouter, Request, Response

from pipeline.gateway.parts import parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.gateway.times import zone_of
from pipeline.pages.sessions import Session, signed_in
from pipeline.pages.visits import PageRoute, Visiting, form_of, go_to, page, sessions_of

router: Final = APIRouter(route_class=PageRoute, include_in_schema=False)
_LOCAL: Final = re.compile(r"/(?![/\\])[^\\\x00-\x1f]{0,2000}")
"""A path of ours; `//elsewhere` is none."""
LINK_ENDED: Final = "This link was used before, or is too old. Ask for another one: creditstream keys sign-in"
KEY_WRONG: Final = "No such key, or it was revoked."


@router.get("/sign-in")
async def sign_in_page(request: Request, token: str = "", next: str = "/") -> Response:  # noqa: A002  (as the URL has it)
    """The form; with a token of a link the question whether to sign in by it."""
    session = sessions_of(request).of(request)
    key_id = sessions_of(request).key_of_link(token) if token else None
    holder = parts_of(request).views.keys.holder_by_id(key_id) if key_id else None
    error = LINK_ENDED if token and holder is None else ""
    return _shown(request, session, error=error, token=token if holder else "", name=holder.name if holder else "",
                  goal=_own(next))  # fmt: skip


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """By the link's token or by a key. The session begins anew."""
    sessions = sessions_of(request)
    session = sessions.of(request)
    form = await form_of(request, session)
    keys = parts_of(request).views.keys
    if token := form.get("token", ""):
        key_id = sessions.redeem(token)
        holder, error = keys.holder_by_id(key_id) if key_id else None, LINK_ENDED
    else:
        holder, error = keys.holder(form.get("key", "").strip()), KEY_WRONG
    if holder is None:
        return _shown(request, session, error=error, goal=_own(form.get("next", "/")), status=403)
    response = go_to(_own(form.get("next", "/")))
    sessions.write(response, signed_in(session, holder.key_id))
    return response


@router.post("/sign-out")
async def sign_out(request: Request, visit: Visiting) -> Response:
    await visit.form()
    response = go_to("/sign-in")
    sessions_of(request).write(
        response, replace(Session.fresh(), zone=visit.session.zone, theme=visit.session.theme)
    )
    return response


@router.post("/preferences")
async def prefer(request: Request, visit: Visiting) -> Response:
    """Time zone, light or dark."""
    form = await visit.form()
    zone, theme = form.get("zone", visit.session.zone), form.get("theme", visit.session.theme)
    zone_of(zone)
    if theme not in {"", "light", "dark"}:
        raise ProblemError("invalid_parameter", "expected light, dark or nothing as the theme")
    response = go_to(_own(form.get("next", "/")))
    sessions_of(request).write(response, replace(visit.session, zone=zone, theme=theme))
    return response


def _own(goal: str) -> str:
    """Where to go on: a path of ours, whatever was asked."""
    return goal if _LOCAL.fullmatch(goal) else "/"


def _shown(request: Request, session: Session, *, status: int = 200, **said: str) -> Response:
    said = {"error": "", "token": "", "name": "", "goal": "/", **said}
    response = page(request, "sign_in.html", session, holder=None, status=status, **said)
    sessions_of(request).write(response, session)  # The form's token is in it.
    return response
