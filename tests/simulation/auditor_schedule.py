"""Which prices and plans count at which instant, as the auditor has it: read a second time, as decimals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.simulation.auditor_prices import price_by_book, price_of_image

VERSIONS_MAX = 100


@dataclass(frozen=True, slots=True)
class AuditedPlans:
    effective_ms: int
    version: str
    credits: Mapping[str, Decimal]
    """Monthly credits by plan."""
    free: frozenset[str]
    overage_prices: Mapping[str, Decimal | None]
    packs: Mapping[str, Mapping[str, Decimal]]
    """Credits by plan and pack."""
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AuditedBook:
    """`content` None: the prices of the product's rules."""

    effective_ms: int
    version: str
    content: Mapping[str, Any] | None = None

    def price(self, service: str, data: dict[str, Any]) -> Decimal | None:
        """Of one image; None where the book has none."""
        if self.content is None:
            return price_of_image(service, data)
        return price_by_book(self.content, service, data)


@dataclass(slots=True)
class AuditedSchedule:
    plans: list[AuditedPlans]
    books: list[AuditedBook] = field(default_factory=lambda: [AuditedBook(0, "2026-01")])

    def plans_at(self, at_ms: int) -> AuditedPlans:
        return [each for each in self.plans if each.effective_ms <= at_ms][-1]

    def book_at(self, at_ms: int) -> AuditedBook:
        return [each for each in self.books if each.effective_ms <= at_ms][-1]

    def publish(self, content: Mapping[str, Any], effective_ms: int, now_ms: int, lead_ms: int) -> str:
        """Why it is refused, `duplicate` for what is there, or nothing."""
        known: list[AuditedPlans] | list[AuditedBook] = self.plans if "plans" in content else self.books
        for each in known:
            if each.version == content["version"]:
                return "duplicate" if each.content == content else "version_exists"
        if len(known) >= VERSIONS_MAX:
            return "too_many_versions"
        if effective_ms < now_ms + lead_ms:
            return "takes_force_too_soon"
        if effective_ms < known[-1].effective_ms:
            return "before_the_newest"
        if "plans" not in content:
            self.books.append(AuditedBook(effective_ms, content["version"], content))
            return ""
        new, old = plans_of(content, effective_ms), self.plans[-1]
        lost = [
            plan
            for plan, price in old.overage_prices.items()
            if plan not in new.credits or (price is not None and new.overage_prices[plan] is None)
        ]
        if lost:
            return "plan_missing"
        self.plans.append(new)
        return ""


def plans_of(content: Mapping[str, Any], effective_ms: int) -> AuditedPlans:
    """The plans of a published file."""
    plans = content["plans"]
    prices = {each["plan"]: each.get("overage_price") for each in plans}
    return AuditedPlans(
        effective_ms,
        content["version"],
        credits={each["plan"]: Decimal(each["monthly_credits"]) for each in plans},
        free=frozenset(each["plan"] for each in plans if not each["paid"]),
        overage_prices={plan: None if price is None else Decimal(price) for plan, price in prices.items()},
        packs={
            each["plan"]: {pack["pack"]: Decimal(pack["credits"]) for pack in each.get("packs", [])}
            for each in plans
        },
        content=content,
    )
