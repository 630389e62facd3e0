"""Balances: the newest state of an account for readers, on a compacted topic, key = account id."""

from typing import Annotated

from pydantic import Field

from schemas.base import AccountId, CreditAmount, GrantKind, Instant, WireModel


class GrantBalance(WireModel):
    grant_id: str
    kind: GrantKind
    priority: int
    credits: CreditAmount
    remaining: CreditAmount
    effective_at: Instant
    expires_at: Instant | None


class AccountBalance(WireModel):
    account_id: AccountId
    plan: str
    posted: CreditAmount
    """The sum of all entries; what is left in all grants, those not yet effective included."""
    held: CreditAmount
    available: CreditAmount
    """What a request can use now: grants in effect, less holds."""
    grants: list[GrantBalance]
    """In burn order."""
    period_start: Instant
    period_end: Instant
    entry_seq: int
    accepted_at: Instant
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    partition_seq: int
