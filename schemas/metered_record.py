"""Metered records: one for each usage event that the rules answered, with the receipt of its charge.

One JSON object a record, key = account id, record timestamp = `accepted_at`. The sink passes the bytes to
ClickHouse as they are (`JSONEachRow`), so the top-level names here are the columns there.
"""

from typing import Any, Literal, Self, TypeAlias

from pydantic import model_validator

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

UsageOutcome: TypeAlias = Literal["metered", "denied", "duplicate", "reversed", "rerated"]
DenialReason: TypeAlias = Literal[
    "insufficient_credits", "credits_exhausted", "plan_paused", "account_closed"
]


class ReceiptStep(WireModel):
    """One rule as it was applied: credits of one image after it, and words for people."""

    rule: str
    detail: str
    credits_per_image: NotNegative


class Receipt(WireModel):
    """Why the charge is what it is. Absent on duplicates and reversals, which point at the charge instead."""

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
    """The answer to one usage event, or a correction of it."""

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
    images: Count
    """Of a correction (reversed, rerated) 0: they were counted with the charge."""
    credits: CreditAmount
    """What was charged: 0 when denied or duplicate. Of a correction the difference that it makes: the sum over an
    event's records is what it cost in the end."""
    rated_credits: NotNegative
    """What it costs by the price book: equal to `credits` when metered; of a duplicate, the first answer's charge; of
    a reversal 0, of usage that was rated again the new price."""
    price_book: str
    """Version of the book in force; empty on duplicates."""
    balance_after: CreditAmount
    partition: Count
    offset: Count
    partition_seq: Count
    entry_seq: Count
    """The ledger entry's number in the account; 0 where none was posted."""
    first_offset: Count
    """Of a duplicate or a correction: the offset of the event that was charged. Else the own offset."""
    receipt: Receipt | None
    attributes: dict[str, Any]
    """Attributes of `data` that no rule knows, kept as they came."""

    @model_validator(mode="after")
    def _only_corrections_give_back(self) -> Self:
        if self.credits < 0 and self.outcome not in {"reversed", "rerated"}:
            raise ValueError(f"expected credits below zero only of a correction, got {self.credits}")
        return self
