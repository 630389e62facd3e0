"""Schedules: which price books and plan catalogues were published, and what may be published next.

A partition knows all versions that it was ever given, in the order in which they take force; none leaves. So a hold
finds the book it was placed by, an account that slept through a change its old plan, and a version never gets
another meaning.
"""

from collections.abc import Sequence
from typing import Final

from pipeline.domain.answers import Refused
from pipeline.domain.instants import SECOND_MS, format_instant
from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.domain.reasons import Reason

VERSIONS_MAX: Final = 100
"""Of price books, and of plan catalogues: each stands in every cursor, with about 130 bytes. Eight years of monthly
changes."""


def refusal(
    schedule: Sequence[PriceBook | PlanCatalog], new: PriceBook | PlanCatalog, *, at: int, lead_ms: int
) -> Refused | None:
    """Why `new` may not be published at `at`, after all of `schedule`; None: it may. The same content again is the
    caller's matter."""
    if any(each.version == new.version for each in schedule):
        return Refused(Reason.VERSION_EXISTS, f"version {new.version!r} was published with other content")
    if len(schedule) >= VERSIONS_MAX:
        return Refused(Reason.TOO_MANY_VERSIONS, f"expected at most {VERSIONS_MAX} versions")
    if new.effective_from < at + lead_ms:
        detail = (
            f"expected effective_from at or after {format_instant(at + lead_ms)}, "
            f"{lead_ms // SECOND_MS} s after the command, got {format_instant(new.effective_from)}"
        )
        return Refused(Reason.TAKES_FORCE_TOO_SOON, detail)
    newest = schedule[-1]
    if new.effective_from < newest.effective_from:
        detail = (
            f"expected effective_from at or after {format_instant(newest.effective_from)}, when "
            f"{newest.version!r} takes force, got {format_instant(new.effective_from)}"
        )
        return Refused(Reason.BEFORE_THE_NEWEST, detail)
    if isinstance(new, PlanCatalog):
        assert isinstance(newest, PlanCatalog), "a schedule holds versions of one kind"
        return lost_plan(newest, new)
    return None


def lost_plan(newest: PlanCatalog, new: PlanCatalog) -> Refused | None:
    """An account may be on any plan that was ever published, and one with overage must get a price for it."""
    for plan_id, plan in newest.plans.items():
        kept = new.plans.get(plan_id)
        if kept is None:
            return Refused(Reason.PLAN_MISSING, f"expected plan {plan_id!r} of {newest.version!r} to stay")
        if plan.overage_price is not None and kept.overage_price is None:
            detail = f"expected plan {plan_id!r} to keep a price for overage, as in {newest.version!r}"
            return Refused(Reason.PLAN_MISSING, detail)
    return None
