"""`/v1/accounts`, `/v1/plans`, `/v1/price-books`: what there is to choose from."""

from functools import cache
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request

from pipeline.bootstrap import bundled
from pipeline.gateway.access import Anyone, Reads
from pipeline.gateway.parts import parts_of
from schemas.http_api import AccountsAnswer, PlansAnswer, PriceBooksAnswer
from schemas.plan import PlanCatalog
from schemas.price_book import PriceBook

router: Final = APIRouter(prefix="/v1", tags=["Accounts"])
ACCOUNTS_DEFAULT: Final = 100

Prefix = Annotated[str, Query(max_length=128, description="What the account's id begins with")]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/accounts")
async def list_accounts(
    request: Request, holder: Reads, prefix: Prefix = "", limit: Limit = ACCOUNTS_DEFAULT
) -> AccountsAnswer:
    """Accounts that the key may touch, in alphabetical order."""
    found = parts_of(request).views.known(prefix, holder.accounts, limit + 1)
    return AccountsAnswer(accounts=found[:limit], more=len(found) > limit)


@router.get("/plans")
async def list_plans(_holder: Anyone) -> PlansAnswer:
    """The plan catalogues of this release, each whole."""
    found = [PlanCatalog.model_validate(each) for each in _contents() if "plans" in each]
    return PlansAnswer(plan_catalogs=sorted(found, key=lambda each: each.effective_from))


@router.get("/price-books")
async def list_price_books(_holder: Anyone) -> PriceBooksAnswer:
    """The price books of this release, each whole: what estimates are made by."""
    found = [PriceBook.model_validate(each) for each in _contents() if "services" in each]
    return PriceBooksAnswer(price_books=sorted(found, key=lambda each: each.effective_from))


@cache
def _contents() -> list[dict[str, Any]]:
    return [orjson.loads(each) for each in bundled().values()]
