"""Command results: the answer to each signed command, key = account id, kept seven days."""

from typing import Literal

from schemas.base import AccountId, CreditAmount, Instant, WireModel


class CommandResult(WireModel):
    account_id: AccountId
    command_id: str
    source: str
    type: str
    outcome: Literal["accepted", "refused", "duplicate"]
    """Of a duplicate: `reason`, `detail` are the first answer's; see `first_outcome`."""
    first_outcome: Literal["accepted", "refused"]
    reason: str
    """Empty when accepted; else a code of `pipeline.domain.reasons`."""
    detail: str
    balance_after: CreditAmount
    accepted_at: Instant
    partition: int
    offset: int
    partition_seq: int
    first_offset: int
