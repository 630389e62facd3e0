"""Who asks, and may they: the key, its scope, its accounts. Before anything is read, of the body or of the account."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Request

from pipeline.gateway.keys import Holder
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from schemas.base import ACCOUNT_ID_PATTERN
from schemas.http_api import Scope

_ACCOUNT_ID: Final = re.compile(ACCOUNT_ID_PATTERN)
HOLDER_INSIDE: Final = "creditstream.holder"
"""In the scope of a request that another part of this process makes for a holder: no client can set it."""
AccountInPath = Annotated[str, Path(pattern=ACCOUNT_ID_PATTERN, max_length=128)]


def holder_of(request: Request, parts: Parts) -> Holder:
    """The holder of the key that the request shows. Raises `unauthenticated`."""
    inside = request.scope.get(HOLDER_INSIDE)
    if isinstance(inside, Holder):
        return inside
    shown = request.headers.getlist("authorization")
    scheme, _, key = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    holder = parts.views.keys.holder(key) if scheme.lower() == "bearer" else None
    if holder is None:
        raise ProblemError(
            "unauthenticated",
            "expected `Authorization: Bearer cs_live_…` with a key that was not revoked",
            headers={"WWW-Authenticate": 'Bearer realm="creditstream"'},
        )
    return holder


def allowed(scope: Scope | None) -> Callable[[Request], Awaitable[Holder]]:
    """Asks for a key with this scope (None: any), counts the request, and gives the holder."""

    async def check(request: Request) -> Holder:  # Async: FastAPI would run it in a thread else.
        parts = parts_of(request)
        holder = holder_of(request, parts)
        if scope is not None and not holder.may(scope):
            raise ProblemError("scope_missing", f"expected a key with the scope {scope!r}")
        account = request.path_params.get("account_id")
        if account is not None:
            require_account(holder, str(account))
        parts.rates.take(holder.key_id)
        return holder

    return check


Ingests = Annotated[Holder, Depends(allowed("ingest"))]
Holds = Annotated[Holder, Depends(allowed("hold"))]
Reads = Annotated[Holder, Depends(allowed("read"))]
Bills = Annotated[Holder, Depends(allowed("billing"))]
"""The owner of an account, or an operator."""
Operates = Annotated[Holder, Depends(allowed("admin"))]
"""An operator: no key that is bound to accounts has this scope."""
Anyone = Annotated[Holder, Depends(allowed(None))]
"""With any good key."""


def require_account(holder: Holder, account: str) -> None:
    """Raises `account_not_allowed`, whether there is such an account or not."""
    if not holder.may_touch(account):
        raise ProblemError("account_not_allowed", "expected an account that this key is bound to")


def account_in(body: dict[str, Any], holder: Holder) -> str:
    """Takes `account_id` out of the body; a key that is bound to one account may leave it out."""
    account = body.pop("account_id", None)
    if account is None:
        if holder.accounts is None or len(holder.accounts) != 1:
            raise ProblemError("account_needed", "expected account_id in the body", pointer="/account_id")
        (account,) = holder.accounts
    if not (isinstance(account, str) and _ACCOUNT_ID.fullmatch(account)):
        detail = f"expected an account id like {ACCOUNT_ID_PATTERN}"
        raise ProblemError("account_needed", detail, pointer="/account_id")
    require_account(holder, account)
    return account
