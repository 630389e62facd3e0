"""Top-up orders: packs that accounts with automatic top-up are to buy; key = account id. The payment process reads
them, and answers each by a signed command `org.apimage.account.topup_result.v1`."""

from typing import Annotated

from pydantic import Field

from schemas.base import AccountId, Count, NotNegative, UtcInstant, WireModel


class TopupOrder(WireModel):
    """One order: at most one of an account is open at a time."""

    order_id: str
    """Of the account and the order's number: the provider's idempotency key, the same in every replay."""
    account_id: AccountId
    order_number: Annotated[int, Field(ge=1)]
    """1, 2, 3, … in each account."""
    pack: str
    credits: NotNegative
    price: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    """What the pack costs."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    threshold: NotNegative
    credits_left: NotNegative
    """What was left, below the threshold."""
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    """Of the record after which the account had so little left."""
    partition_seq: Count
