"""Metered records: one for each usage event that the rules answered, with the receipt of its charge.

One JSON object a record, key = account id, record timestamp = `accepted_at`. The sink passes the bytes to
ClickHouse as they are (`JSONEachRow`), so the top-level names here are the columns there.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import AccountId, Channel, CreditAmount, GrantShare, Instant, Service, WireModel

UsageOutcome = Literal["metered", "denied", "duplicate"]


class ReceiptStep(WireModel):
    """One rule as it was applied: credits of one image after it, and words for people."""

    rule: str
    detail: str
    credits_per_image: CreditAmount


class Receipt(WireModel):
    """Why the charge is what it is. Absent on duplicates, which point at the first answer instead."""

    inputs: dict[str, Any]
    """The attributes of `data` that decide the price, as the event gave them."""
    steps: list[ReceiptStep]
    credits_per_image: CreditAmount
    images: int
    grants: list[GrantShare]
    """Which grants gave how much, in burn order; empty where nothing was charged."""
    balance_before: CreditAmount
    balance_after: CreditAmount


class MeteredRecord(WireModel):
    account_id: AccountId
    event_id: str
    source: str
    service: Service
    outcome: UsageOutcome
    reason: str
    """Empty when metered; else the code: insufficient_credits, credits_exhausted, plan_paused, duplicate."""
    occurred_at: Instant
    accepted_at: Instant
    channel: Channel
    images: int
    credits: CreditAmount
    """What was charged: 0 when denied or duplicate."""
    rated_credits: CreditAmount
    """What it costs by the price book: equal to `credits` when metered; of a duplicate, the first answer's charge."""
    price_book: str
    balance_after: CreditAmount
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    partition_seq: Annotated[int, Field(ge=1)]
    entry_seq: int
    """The ledger entry's number in the account; 0 where none was posted."""
    first_offset: int
    """Of a duplicate: the offset of the event that was charged. Else the own offset."""
    receipt: Receipt | None
    attributes: dict[str, Any]
    """Attributes of `data` that no rule knows, kept as they came."""
