"""Command results: the answer to each signed command, key = account id, kept seven days."""

from typing import Literal, TypeAlias

from schemas.base import AccountId, Count, CreditAmount, EventId, Source, UtcInstant, WireModel

RefusalReason: TypeAlias = Literal[
    "account_exists",
    "unknown_account",
    "unknown_plan",
    "grant_exists",
    "unknown_grant",
    "grant_expired",
    "too_many_grants",
]


class CommandResult(WireModel):
    """The answer to one account command."""

    account_id: AccountId
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
    balance_after: CreditAmount
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
    first_offset: Count
    """Of a duplicate: the offset of the command that was answered. Else the own offset."""
