"""Plans: what an account gets each period, and what happens when it runs out."""

from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain.credits import Credits


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    plan_id: str
    paid: bool
    """A free plan pauses when it runs out; a paid one blocks (product.md section 3)."""
    monthly_credits: Credits
    period_months: int
    overage_price: Decimal | None
    """Money for one credit of overage, in `currency`; None: the plan offers none."""
    currency: str

    def outranks(self, other: "Plan") -> bool:
        """Whether a change to this plan is an upgrade: it gives more credits a month."""
        return self.monthly_credits > other.monthly_credits
