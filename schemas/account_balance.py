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
    """The sum of all entries. A grant that begins later is posted when it takes effect."""
    held: CreditAmount
    available: CreditAmount
    """What a request can use now: posted less held."""
    grants: list[GrantBalance]
    """Those in effect, in burn order, then those that begin later (with `remaining` 0)."""
    period_start: Instant
    period_end: Instant
    entry_seq: int
    accepted_at: Instant
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    partition_seq: int
