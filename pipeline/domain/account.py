"""One account: everything that future decisions about it need, and nothing that only the past does."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import NEVER, Grant, GrantShare
from pipeline.domain.instants import Instant
from pipeline.domain.usage import AccountId

FIRST_HASH: Final = "0" * 32
"""What the first entry of an account names as its predecessor."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """The plan and the period that runs: half open, computed from the anchor each time."""

    plan_id: str
    anchor: Instant
    months_to_end: int
    """Calendar months from the anchor to the period's end: the next boundary counts on from here."""
    period_start: Instant
    period_end: Instant
    next_plan_id: str
    """Takes the plan's place at the boundary; the same plan unless a change was asked for."""


class PeriodTotals(NamedTuple):
    """What moved since the period began, none of it negative: opening + granted - used - expired - voided is the
    balance, always."""

    opening: Credits
    granted: Credits
    used: Credits
    expired: Credits
    voided: Credits


NO_TOTALS: Final = PeriodTotals(NO_CREDITS, NO_CREDITS, NO_CREDITS, NO_CREDITS, NO_CREDITS)


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for work that was asked for."""

    hold_id: str
    credits: Credits
    shares: tuple[GrantShare, ...]
    """The exact grants it took from, in burn order."""
    price_book: str
    """The book in force when it was placed: its price is locked."""
    expires_at: Instant
    """Half open: from this instant on nothing can be captured."""


@dataclass(frozen=True, slots=True)
class Account:
    """`grants` are in effect and in burn order, `remaining` is what is left of each; `pending` have not begun."""

    account_id: AccountId
    subscription: Subscription
    grants: tuple[Grant, ...]
    remaining: tuple[Credits, ...]
    pending: tuple[Grant, ...]
    entry_seq: int
    entry_hash: str
    posted: Credits
    """The sum of all entries, which is the sum of `remaining` and `held`."""
    holds: tuple[Hold, ...]
    held: Credits
    """The sum of `holds`. What can be used is `posted` less this."""
    totals: PeriodTotals
    next_boundary: int
    """When time alone changes this account next."""
    closed: bool


def boundary_of(
    subscription: Subscription,
    grants: tuple[Grant, ...],
    pending: tuple[Grant, ...],
    holds: tuple[Hold, ...],
    *,
    closed: bool,
) -> int:
    """The next instant at which time alone changes the account; `NEVER` for a closed one."""
    if closed:
        return NEVER
    expiries = [each.expires_at for each in grants if each.expires_at is not None]
    begins = [each.effective_at for each in pending]
    return min([subscription.period_end, *expiries, *begins, *[each.expires_at for each in holds]])
