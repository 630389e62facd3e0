"""A request to a screen: who is signed in, the form it brings, the page it gets. Errors are pages too."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, Any, Final, cast
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.client.origin import new_id
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import body_of
from pipeline.gateway.parts import parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.pages import words
from pipeline.pages.inside import Inside
from pipeline.pages.sessions import Session, Sessions, holder_of

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FIELDS_MAX: Final = 64
"""Of one form."""
_FORM: Final = "application/x-www-form-urlencoded"

TEMPLATES: Final = Environment(
    loader=PackageLoader("pipeline.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_FILTERS: Final[dict[str, Any]] = dict(words.FILTERS)
TEMPLATES.filters.update(_FILTERS)


SCREENS: Final = {
    "of_account": (
        ("", "Dashboard"),
        ("/usage", "Usage data"),
        ("/credits", "Credits"),
        ("/alerts", "Alerts"),
        ("/billing", "Billing settings"),
    ),
    "of_all": (("/prices", "Price list"),),
    "of_owners": (("/keys", "API keys"),),
    "of_operators": (("/pipeline", "Pipeline"), ("/dead-letters", "Dead letters")),
}
"""Address and name: under an account, for everyone, for whoever may change something, for operators."""


class SignInNeededError(Exception):
    """Nobody is signed in, or no longer."""


class PageRoute(APIRoute):
    """Problems become pages, and whoever is not signed in is asked to."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                response = await handle(request)
            except SignInNeededError:
                response = _to_sign_in(request)
            except ProblemError as problem:
                response = problem_page(request, problem)
            except RequestValidationError as error:
                where = "/".join(str(part) for part in error.errors()[0]["loc"])
                response = problem_page(
                    request, ProblemError("invalid_parameter", f"expected another {where}")
                )
            response.headers.update(SECURITY_HEADERS)
            return response

        return shown


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in."""

    request: Request
    session: Session
    holder: Holder

    @property
    def inside(self) -> Inside:
        return Inside(self.request, self.holder)

    async def form(self) -> "Form":
        """The form that was sent, from one of our own pages. Raises `form_outdated`."""
        return await form_of(self.request, self.session)

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A screen."""
        return page(self.request, template, self.session, holder=self.holder, status=status, **context)


class Form(dict[str, str]):
    """Fields by name; of fields with several values all in `lists`."""

    lists: dict[str, list[str]]

    def optional(self, name: str) -> str | None:
        return self.get(name, "").strip() or None


async def visit(request: Request) -> Visit:
    """Raises SignInNeededError."""
    session = sessions_of(request).of(request)
    holder = holder_of(request, session)
    if holder is None:
        raise SignInNeededError
    return Visit(request, session, holder)


Visiting = Annotated[Visit, Depends(visit)]


def sessions_of(request: Request) -> Sessions:
    return cast(Sessions, request.app.state.sessions)


async def form_of(request: Request, session: Session) -> Form:
    """The form with its token checked. Its body is small and comes soon, or is refused."""
    body = await body_of(request, parts_of(request).settings.gateway)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ProblemError("unsupported_media_type", f"expected a form ({_FORM})")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
        )
    except ValueError as error:
        raise ProblemError("invalid_parameter", f"expected a form of at most {FIELDS_MAX} fields") from error
    form = Form(pairs)
    form.lists = {}
    for name, value in pairs:
        form.lists.setdefault(name, []).append(value)
    if not compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
        raise ProblemError("form_outdated", "this form is not of this session any more; open the page again")
    return form


def page(
    request: Request,
    template: str,
    session: Session,
    *,
    holder: Holder | None,
    status: int = 200,
    **context: Any,
) -> Response:
    """A template as a response."""
    text = TEMPLATES.get_template(template).render(
        session=session,
        holder=holder,
        path=request.url.path,
        address=str(request.url.path) + (f"?{request.url.query}" if request.url.query else ""),
        zone=context.pop("zone", session.zone),
        zones=words.ZONES,
        screens=SCREENS,
        may_change=holder is not None and holder.may("billing"),
        operates=holder is not None and holder.may("admin"),
        new_id=new_id,
        **context,
    )
    return HTMLResponse(text, status)


def problem_page(request: Request, problem: ProblemError) -> Response:
    """What went wrong, in words, with a way on."""
    session = sessions_of(request).of(request)
    holder = holder_of(request, session)
    account = request.path_params.get("account_id")
    response = page(
        request, "problem.html", session, holder=holder, status=problem.status_code, problem=problem,
        account=account if holder is not None and account and holder.may_touch(account) else None,
    )  # fmt: skip
    if problem.headers:
        response.headers.update(problem.headers)
    return response


def go_to(path: str) -> Response:
    """See another page now, by GET."""
    return RedirectResponse(path, 303)


def _to_sign_in(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    goal = request.url.path + query if request.method == "GET" else "/"
    response = go_to(f"/sign-in?next={quote(goal, safe='/')}")
    if "hx-request" in request.headers:  # A page that is open goes there as a whole.
        response = Response(status_code=200, headers={"HX-Redirect": "/sign-in"})
    return response
