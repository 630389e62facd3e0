"""Metered records: one for each usage event that the rules answered, with the receipt of its charge.

One JSON object a record, key = account id, record timestamp = `accepted_at`. The sink passes the bytes to
ClickHouse as they are (`JSONEachRow`), so the top-level names here are the columns there.
"""

from typing import Any, Literal, TypeAlias

from schemas.base import (
    AccountId,
    Channel,
    Count,
    CreditAmount,
    EventId,
    GrantShare,
    NotNegative,
    Service,
    Shortage,
    Source,
    UtcInstant,
    WireModel,
)
from schemas.usage_event import Images

UsageOutcome: TypeAlias = Literal["metered", "denied", "duplicate"]
DenialReason: TypeAlias = Literal[
    "insufficient_credits", "credits_exhausted", "plan_paused", "account_closed"
]


class ReceiptStep(WireModel):
    """One rule as it was applied: credits of one image after it, and words for people."""

    rule: str
    detail: str
    credits_per_image: NotNegative


class Receipt(WireModel):
    """Why the charge is what it is. Absent on duplicates, which point at the first answer instead."""

    inputs: dict[str, Any]
    """The attributes of `data` that decide the price, as the event gave them."""
    steps: list[ReceiptStep]
    credits_per_image: NotNegative
    images: Images
    grants: list[GrantShare]
    """Which grants gave how much, in burn order, and last what was `overage`; empty where nothing was charged."""
    balance_before: CreditAmount
    """What is charged beyond it is overage."""
    balance_after: CreditAmount
    shortage: Shortage | None = None
    """Only of usage that was denied for want of credits."""


class MeteredRecord(WireModel):
    """The answer to one usage event."""

    account_id: AccountId
    event_id: EventId
    source: Source
    service: Service
    outcome: UsageOutcome
    reason: Literal["", DenialReason, "duplicate"]
    """Empty when metered. Of a duplicate whose first copy was denied: why that was."""
    occurred_at: UtcInstant
    accepted_at: UtcInstant
    channel: Channel
    images: Images
    credits: NotNegative
    """What was charged: 0 when denied or duplicate."""
    rated_credits: NotNegative
    """What it costs by the price book: equal to `credits` when metered; of a duplicate, the first answer's charge."""
    price_book: str
    """Version of the book in force; empty on duplicates."""
    balance_after: CreditAmount
    partition: Count
    offset: Count
    partition_seq: Count
    entry_seq: Count
    """The ledger entry's number in the account; 0 where none was posted."""
    first_offset: Count
    """Of a duplicate: the offset of the event that was charged. Else the own offset."""
    receipt: Receipt | None
    attributes: dict[str, Any]
    """Attributes of `data` that no rule knows, kept as they came."""
