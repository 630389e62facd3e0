"""Plans as data files: versioned like prices."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field

from schemas.base import Instant, NotNegative, WireModel


def _read_price(value: object) -> object:
    return (
        Decimal(value)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", value)
        else value
    )


class Plan(WireModel):
    plan: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    name: str
    paid: bool
    """A free plan pauses when its credits are used up, a paid one blocks."""
    monthly_credits: NotNegative
    period_months: Annotated[int, Field(ge=1, le=12)] = 1
    overage_price: Annotated[Decimal, BeforeValidator(_read_price), Field(gt=0, le=1000)] | None = None
    """Money for one credit beyond the grants, at most six places; null where the plan offers no overage."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR"
    note: str = ""


class PlanCatalog(WireModel):
    """All plans of one version."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")]
    effective_from: Instant
    plans: Annotated[list[Plan], Field(min_length=1)]
