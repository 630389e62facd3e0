"""Plans as data files: versioned like prices."""

import re
from decimal import Decimal
from typing import Annotated, Final, Self, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from schemas.base import CREDITS_NOT_NEGATIVE_PATTERN, CreditAmount, Term, WireModel

PRICE_PATTERN: Final = r"^[0-9]{1,4}(\.[0-9]{1,6})?$"


def _read_price(value: object) -> object:
    return Decimal(value) if isinstance(value, str) and re.fullmatch(PRICE_PATTERN, value) else value


OveragePrice: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_read_price),
    Field(gt=0, le=1000),
    WithJsonSchema({"type": "string", "pattern": PRICE_PATTERN, "examples": ["0.03"]}),
]


MONTHLY_CREDITS_MAX: Final = 100_000_000
MonthlyCredits: TypeAlias = Annotated[
    CreditAmount,
    Field(ge=0, le=MONTHLY_CREDITS_MAX),
    WithJsonSchema({"type": "string", "pattern": CREDITS_NOT_NEGATIVE_PATTERN, "examples": ["500"]}),
]
"""As much as any other grant: a plain decimal, at most a hundred million."""


PACKS_MAX: Final = 32
PackPrice: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_read_price),
    Field(gt=0, le=9999),
    WithJsonSchema({"type": "string", "pattern": PRICE_PATTERN, "examples": ["15"]}),
]


class Pack(WireModel):
    """Credits that can be bought at once, as a prepaid grant."""

    pack: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    credits: Annotated[MonthlyCredits, Field(gt=0)]
    price: PackPrice
    """Money for the whole pack, in the plan's currency."""


class Plan(WireModel):
    plan: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    name: str
    paid: bool
    """A free plan pauses when its credits are used up, a paid one blocks."""
    monthly_credits: MonthlyCredits
    period_months: Annotated[int, Field(ge=1, le=12)] = 1
    overage_price: OveragePrice | None = None
    """Money for one credit beyond the grants, at most six places; null where the plan offers no overage."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    """Of the price, ISO 4217."""
    packs: list[Pack] = Field(default_factory=list[Pack], max_length=PACKS_MAX)
    """What can be bought beside the plan, also by automatic top-up."""
    note: str = ""


class PlanCatalog(WireModel):
    """All plans of one version."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")]
    effective_from: Term
    plans: Annotated[list[Plan], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_plan_once(self) -> Self:
        names = [each.plan for each in self.plans]
        if len(names) != len(set(names)):
            raise ValueError(f"expected each plan once, got {names}")
        return self
