"""Plans: what an account gets each period, and what happens when it runs out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.domain.credits import Credits
from pipeline.domain.instants import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Credits that can be bought at once, as a prepaid grant."""

    pack_id: str
    credits: Credits
    price: Decimal
    """Money for the whole pack, in the plan's currency."""


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
    packs: Mapping[str, Pack]
    """What can be bought beside the plan, by id."""

    def outranks(self, other: "Plan") -> bool:
        """Whether a change to this plan is an upgrade: it gives more credits a month."""
        return self.monthly_credits > other.monthly_credits


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCatalog:
    """All plans of one version."""

    version: str
    sha256: str
    effective_from: Instant
    plans: Mapping[str, Plan]


def plans_in_force(catalogs: Sequence[PlanCatalog], at: int) -> Mapping[str, Plan]:
    """The plans by the last catalogue whose `effective_from` has come. The schedule is in that order, and its first
    catalogue starts with the epoch: there is always one."""
    for catalog in reversed(catalogs):
        if catalog.effective_from <= at:
            return catalog.plans
    raise AssertionError("the first plan catalogue starts with the epoch")
