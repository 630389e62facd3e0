"""Statements: one for each account and closed period, made at the boundary and never changed; key = account id.

opening + granted + overage + reversed - used - expired - voided = closing, to the millionth. What is accepted after the
boundary stands in the next statement, whatever the producer's clock said.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import AccountId, Count, CreditAmount, NotNegative, UtcInstant, WireModel


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
    reversed: NotNegative
    """Charges that were taken back in this period, whenever they were made."""
    overage: CreditAmount
    """Credits used beyond all grants; billed in money, so never part of a balance. Below zero when more of it was taken
    back than was used in the period: then money is given back."""
    overage_price: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")] | None
    """Money for one of them; null where the plan offers none."""
    overage_amount: Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
    """overage × overage_price, exact and not rounded."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    closing: NotNegative
    last_entry_seq: Count
    """It covers the entries from the one after the statement before, up to this one."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
