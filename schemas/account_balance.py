"""Balances: the newest state of an account for readers, on a compacted topic, key = account id."""

from typing import Literal

from schemas.base import AccountId, Count, CreditAmount, GrantKind, NotNegative, UtcInstant, WireModel


class GrantBalance(WireModel):
    grant_id: str
    kind: GrantKind
    priority: Count
    credits: NotNegative
    remaining: NotNegative
    effective_at: UtcInstant
    expires_at: UtcInstant | None


class OpenHold(WireModel):
    """Credits set aside."""

    hold_id: str
    credits: NotNegative
    expires_at: UtcInstant


class AutoTopup(WireModel):
    """Automatic top-up, as it is chosen and where it stands."""

    threshold: NotNegative
    pack: str
    credits_max_per_period: NotNegative
    bought: NotNegative
    """In this period."""
    open_order: Count | None
    """The order that the payment provider has not answered yet."""
    not_before: UtcInstant | None
    """No further order before this, after a decline."""


class AccountBalance(WireModel):
    """The newest balance of one account."""

    account_id: AccountId
    plan: str
    next_plan: str
    """The plan of the next period."""
    status: Literal["open", "closed"]
    posted: CreditAmount
    """The sum of all entries. A grant that begins later is posted when it takes effect."""
    held: NotNegative
    available: CreditAmount
    """What a request can use now: posted less held, and what room there is for overage."""
    overage_ceiling: NotNegative | None
    """Most overage in one period; null: overage protection is on."""
    overage: CreditAmount
    """Booked in this period, less what was taken back in it."""
    alert_thresholds: list[Count]
    """Percent of the period's credits."""
    auto_topup: AutoTopup | None
    """null: off."""
    holds: list[OpenHold]
    grants: list[GrantBalance]
    """Those in effect, in burn order, then those that begin later (with `remaining` 0)."""
    period_used: NotNegative
    """Used since `period_start`."""
    period_start: UtcInstant
    period_end: UtcInstant
    entry_seq: Count
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
