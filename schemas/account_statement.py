"""Statements: one for each account and closed period, made at the boundary and never changed; key = account id.

opening + granted + overage + reversed - used - expired - voided - overage_returned = closing, to the millionth. What is
accepted after the boundary stands in the next statement, whatever the producer's clock said.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import AccountId, Count, NotNegative, UtcInstant, WireModel


class OverageReturn(WireModel):
    """Overage of a closed period that is not owed any more, at the price at which that period billed it."""

    period_end: UtcInstant
    credits: NotNegative
    overage_price: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")] | None
    amount: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """credits × overage_price, exact and not rounded."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


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
    overage: NotNegative
    """Credits used beyond all grants, less what was taken back of them; billed in money, so never part of a balance."""
    overage_price: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")] | None
    """Money for one of them; null where the plan offers none."""
    overage_amount: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """overage × overage_price, exact and not rounded."""
    overage_returned: NotNegative
    """Overage of closed periods, which their statements have billed, that was taken back in this one."""
    overage_returns: list[OverageReturn]
    """The same by period: money to be given back. Empty nearly always."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    closing: NotNegative
    last_entry_seq: Count
    """It covers the entries from the one after the statement before, up to this one."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
