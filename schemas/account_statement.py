"""Statements: one for each account and closed period, made at the boundary and never changed; key = account id.

opening + granted - used - expired - voided = closing, to the millionth. What is accepted after the boundary stands in
the next statement, whatever the producer's clock said.
"""

from schemas.base import AccountId, Count, NotNegative, UtcInstant, WireModel


class AccountStatement(WireModel):
    """One closed period of one account."""

    account_id: AccountId
    plan: str
    period_start: UtcInstant
    period_end: UtcInstant
    """Exclusive. Earlier than planned where an upgrade from a free plan or a closure ended the period."""
    opening: NotNegative
    granted: NotNegative
    used: NotNegative
    expired: NotNegative
    voided: NotNegative
    closing: NotNegative
    last_entry_seq: Count
    """It covers the entries from the one after the statement before, up to this one."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
