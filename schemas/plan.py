"""Plans as data files: versioned like prices."""

from typing import Annotated

from pydantic import Field

from schemas.base import Instant, NotNegative, WireModel


class Plan(WireModel):
    plan: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    name: str
    paid: bool
    """A free plan pauses when its credits are used up, a paid one blocks."""
    monthly_credits: NotNegative
    period_months: Annotated[int, Field(ge=1, le=12)] = 1
    note: str = ""


class PlanCatalog(WireModel):
    """All plans of one version."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")]
    effective_from: Instant
    plans: Annotated[list[Plan], Field(min_length=1)]
