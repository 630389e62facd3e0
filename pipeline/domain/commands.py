"""Account commands as the rules see them: signed, parsed, bounded."""

from dataclasses import dataclass
from typing import TypeAlias

from pipeline.domain.account import TopupPolicy
from pipeline.domain.credits import Credits
from pipeline.domain.grants import GrantId
from pipeline.domain.instants import Instant
from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.domain.usage import AccountId, Fingerprint, UsageEvent


@dataclass(frozen=True, slots=True)
class OpenAccount:
    plan_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueGrant:
    grant_id: GrantId
    kind: str
    credits: Credits
    priority: int
    effective_at: Instant | None  # None: at once.
    expires_at: Instant | None  # None: never, or by default.
    expires_by_default: bool
    """A prepaid grant that says nothing of its expiry ends after the deployment's months (12, if it has not chosen)."""
    source: str


@dataclass(frozen=True, slots=True)
class VoidGrant:
    grant_id: GrantId


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """To a larger plan at once, to any other at the period's end."""

    plan_id: str


@dataclass(frozen=True, slots=True)
class CloseAccount:
    """For good: what is left is voided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """The owner's billing settings; what is not said stays."""

    sets_overage: bool
    overage_ceiling: Credits | None  # None, where overage is set: protection on.
    thresholds: tuple[int, ...] | None
    sets_topup: bool
    topup: TopupPolicy | None  # None, where it is set: off.


@dataclass(frozen=True, slots=True)
class AnswerTopup:
    """What the payment provider said of an order."""

    order: int
    succeeded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceHold:
    """Set credits aside: an amount, or what a usage event would cost by the book in force."""

    hold_id: str
    credits: Credits | None
    usage: UsageEvent | None  # Exactly one of the two. As yet without an id of its own.
    seconds: int
    """How long it lives."""
    partial: bool
    """Of a batch that does not fit, hold as many images as do; else nothing."""


@dataclass(frozen=True, slots=True)
class CaptureHold:
    """Charge the usage that was really done, at the price of the hold; the rest goes back."""

    hold_id: str
    usage: UsageEvent


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    hold_id: str


@dataclass(frozen=True, slots=True)
class KnownUsage:
    """What the records say of an event whose identity the index may have forgotten."""

    offset: int
    """Where its first copy was answered."""
    same_content: bool


@dataclass(frozen=True, slots=True)
class ReadmitUsage:
    """Put back a usage event that was set aside or has become a dead letter, after a look into the records."""

    usage: UsageEvent
    accepted_at: Instant
    """When it was first accepted: by this its lateness is judged."""
    known: KnownUsage | None


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """A metered record, by where it stands and by where in the log its usage does."""

    partition: int
    offset: int
    """On the topic of metered records: the shell reads it there."""
    event_offset: int
    """In the log."""


@dataclass(frozen=True, slots=True)
class ReverseUsage:
    """Take a charge back."""

    record: RecordPlace
    credits: Credits | None  # None: all that is left of it.


@dataclass(frozen=True, slots=True)
class RerateUsage:
    """Take a charge back and charge the same usage by another price book."""

    record: RecordPlace
    price_book: str


CommandBody: TypeAlias = (
    OpenAccount
    | IssueGrant
    | VoidGrant
    | ChangePlan
    | CloseAccount
    | Configure
    | PlaceHold
    | CaptureHold
    | ReleaseHold
    | ReadmitUsage
    | ReverseUsage
    | RerateUsage
    | AnswerTopup
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    account_id: AccountId
    command_id: str
    source: str
    type: str
    occurred_at: Instant
    body: CommandBody
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A new version of the price book or of the plans, for the partition's schedule."""

    command_id: str
    source: str
    type: str
    occurred_at: Instant
    content: bytes
    """Canonical JSON: the row that keeps it."""
    published: PriceBook | PlanCatalog
    """The same, read."""
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes for idle accounts too. Anyone may say so: the broker's clock says how much."""
