"""What a command leads to: it was obeyed, or it was refused with a reason. Closed; both are answers."""

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.domain.account import Account
from pipeline.domain.credits import Credits
from pipeline.domain.instants import Instant
from pipeline.domain.ledger import LedgerEntry
from pipeline.domain.rating import RatedUsage
from pipeline.domain.reasons import Reason
from pipeline.domain.subscriptions import Booked
from pipeline.domain.usage import UsageEvent


@dataclass(frozen=True, slots=True)
class HoldState:
    """The hold as the answer tells it: what is set aside, or of an ended one what was charged."""

    hold_id: str
    credits: Credits
    images: int
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class PlanChange:
    """The plan that was asked for, and from when it counts: now, or the period's end."""

    plan_id: str
    effective_at: Instant


@dataclass(frozen=True, slots=True)
class Reversal:
    """What was taken back of a charge, and where it went: `credits` is the sum of the others."""

    offset: int
    """Of the usage in the log."""
    credits: Credits
    returned: Credits
    """To the grants that had paid."""
    expired: Credits
    """To grants that have ended: it expired there and then."""
    overage: Credits
    """Not owed any more."""
    recharged: Credits | None = None
    """What the usage costs now, where it was rated again."""


@dataclass(frozen=True, slots=True)
class TopupAnswered:
    """What the payment provider said of an order, and what follows."""

    order: int
    not_before: Instant | None
    """None: it was paid. After a decline: no further order before this. An account that needs one is woken up then."""


@dataclass(frozen=True, slots=True)
class Captured:
    """Usage that a capture charged; it is metered like any other."""

    event: UsageEvent
    rated: RatedUsage
    entry: LedgerEntry | None


@dataclass(frozen=True, slots=True)
class Obeyed:
    account: Account
    booked: Booked
    hold: HoldState | None = None
    captured: Captured | None = None
    plan_change: PlanChange | None = None
    reversal: Reversal | None = None
    topup: TopupAnswered | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    reason: Reason
    detail: str
    required: Credits | None = None
    """What it would have taken, where credits were missing."""


Answer: TypeAlias = Obeyed | Refused
