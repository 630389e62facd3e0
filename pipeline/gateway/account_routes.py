"""`/v1/accounts/{account_id}/…`: what an account holds."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from pipeline.gateway.access import AccountInPath, Reads
from pipeline.gateway.json_answers import json_answer
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.query import accounts
from schemas.http_api import BalanceAnswer

router: Final = APIRouter(prefix="/v1/accounts/{account_id}", tags=["Accounts"])


@router.get("/balance", response_model=BalanceAnswer)
async def balance(request: Request, holder: Reads, account_id: AccountInPath) -> Response:
    """The balance with its grants in burn order. It shows whatever was answered before it was asked for."""
    del holder
    return json_answer(await balance_of(parts_of(request), account_id))


async def balance_of(parts: Parts, account: str) -> dict[str, Any]:
    """As `BalanceAnswer` says. Raises `unknown_account`."""
    seen = await parts.views.balance(account)
    found = seen.balance or await parts.store.ask(lambda client: accounts.balance(client, account))
    if found is None:
        raise ProblemError("unknown_account", f"there is no account {account!r}")
    return {**{name: found[name] for name in _BALANCE}, "is_behind": seen.is_behind}


_BALANCE: Final = [name for name in BalanceAnswer.model_fields if name != "is_behind"]
