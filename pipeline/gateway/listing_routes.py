"""`/v1/accounts`, `/v1/plans`, `/v1/price-books`: what there is to choose from."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

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
async def list_plans(request: Request, _holder: Anyone) -> PlansAnswer:
    """The plan catalogues of the running deployment, each whole."""
    found = (await parts_of(request).schedule.now()).plan_catalogs
    return PlansAnswer(plan_catalogs=[PlanCatalog.model_validate_json(each) for each in found])


@router.get("/price-books")
async def list_price_books(request: Request, _holder: Anyone) -> PriceBooksAnswer:
    """The price books of the running deployment, each whole: what usage is charged and estimated by."""
    found = (await parts_of(request).schedule.now()).price_books
    return PriceBooksAnswer(price_books=[PriceBook.model_validate_json(each) for each in found])
