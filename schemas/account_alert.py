"""Alerts for the notifier: decided with the debit, once for each account, period and threshold; key = account id."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import AccountId, Count, NotNegative, UtcInstant, WireModel


class AccountAlert(WireModel):
    """One alert. Whoever sends it out keeps `alert_id`, which is the same in every replay."""

    alert_id: str
    account_id: AccountId
    kind: Literal["threshold", "limit_reached"]
    """`limit_reached`: the first request of the period that was denied for want of credits."""
    threshold: Annotated[int, Field(ge=1, le=1000)] | None
    """Percent of the period's credits; null for `limit_reached`."""
    used: NotNegative
    base: NotNegative
    """The period's credits: what it opened with and what was granted since; for an account without monthly credits
    the original amounts of its active grants."""
    period_start: UtcInstant
    period_end: UtcInstant
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
