"""Command results: the answer to each signed command, key = account id, kept seven days."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from schemas.base import (
    ACCOUNT_ID_PATTERN,
    Count,
    CreditAmount,
    EventId,
    NotNegative,
    Shortage,
    Source,
    UtcInstant,
    WireModel,
)
from schemas.publication import SCHEDULE_SUBJECT

RefusalReason: TypeAlias = Literal[
    "account_exists",
    "unknown_account",
    "unknown_plan",
    "grant_exists",
    "unknown_grant",
    "grant_expired",
    "too_many_grants",
    "account_closed",
    "plan_unchanged",
    "plan_paused",
    "credits_exhausted",
    "insufficient_credits",
    "hold_exists",
    "unknown_hold",
    "hold_captured",
    "hold_released",
    "hold_expired",
    "exceeds_hold",
    "usage_answered",
    "record_not_found",
    "record_mismatch",
    "not_reversible",
    "reversal_too_late",
    "already_reversed",
    "exceeds_charge",
    "too_many_reversals",
    "unknown_price_book",
    "unknown_pack",
    "pack_too_small",
    "cap_too_small",
    "unknown_order",
    "order_answered",
    "conflict",
    "too_many_holds",
    "overage_not_offered",
    "version_exists",
    "too_many_versions",
    "takes_force_too_soon",
    "before_the_newest",
    "plan_missing",
    "too_late",
    "too_early",
    "unpriced",
]


class HoldAnswer(WireModel):
    """The hold that a command was about."""

    hold_id: str
    credits: NotNegative
    """What is set aside; of a capture what was charged, of a release 0."""
    images: Count | None = None
    """How many images that is; 0 for a hold of an amount. Not repeated on duplicates."""
    expires_at: UtcInstant | None = None


class PlanChangeAnswer(WireModel):
    """The plan that was asked for."""

    plan: str
    effective_at: UtcInstant
    """From when it counts: this moment of an upgrade, else the period's end."""


class PublicationAnswer(WireModel):
    """The version of a price book or plan catalogue that was to be published."""

    version: str
    sha256: str
    effective_from: UtcInstant


class ReversalAnswer(WireModel):
    """What was taken back of a charge: `credits` is the sum of the three below it."""

    event_offset: Count
    """Where the usage stands in the log."""
    credits: NotNegative
    returned: NotNegative
    """To the grants that had paid."""
    expired: NotNegative
    """To grants that have ended: it expired there and then."""
    overage: NotNegative
    """Not owed any more."""
    recharged: NotNegative | None
    """What the usage costs now, where it was rated again."""


class TopupAnswer(WireModel):
    """What the payment provider said of an order."""

    order: Annotated[int, Field(ge=1)]
    result: Literal["succeeded", "declined"]
    not_before: UtcInstant | None
    """After a decline: no further order before this; an account that still needs one makes it then."""


class CommandResult(WireModel):
    """The answer to one command; to a publication, the answer of one partition."""

    account_id: Annotated[str, Field(pattern=f"{ACCOUNT_ID_PATTERN}|^{SCHEDULE_SUBJECT}$")]
    """`__schedule__` of a publication, which is about no account."""
    command_id: EventId
    source: Source
    type: str
    outcome: Literal["accepted", "refused", "duplicate"]
    """Of a duplicate: `reason` is the first answer's; see `first_outcome`."""
    first_outcome: Literal["accepted", "refused"]
    reason: Literal["", RefusalReason]
    """Empty when accepted."""
    detail: str
    """The refusal in words; empty when accepted and on duplicates."""
    hold: HoldAnswer | None
    """Of hold, capture and release, when accepted."""
    plan_change: PlanChangeAnswer | None
    """Of a change of plan, when accepted. Not repeated on duplicates."""
    publication: PublicationAnswer | None
    """Of a price book or plan catalogue, whatever became of it."""
    reversal: ReversalAnswer | None
    """Of a reversal or a new rating, when accepted. Not repeated on duplicates."""
    shortage: Shortage | None
    """Of a refusal for want of credits."""
    topup: TopupAnswer | None
    """Of a payment provider's answer, when accepted. Not repeated on duplicates."""
    balance_after: CreditAmount
    """What is posted."""
    available_after: CreditAmount
    """What can be used: posted less held, and what room there is for overage."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
    first_offset: Count
    """Of a duplicate: the offset of the command that was answered. Else the own offset."""
