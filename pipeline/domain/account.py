"""One account: everything that future decisions about it need, and nothing that only the past does."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import NEVER, OVERAGE, Grant, GrantId, GrantShare
from pipeline.domain.instants import DAY_MS, Instant
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
    """What moved since the period began, none of it negative: opening + granted + overage + reversed - used - expired -
    voided - overage_returned is the balance, always."""

    opening: Credits
    granted: Credits
    used: Credits
    expired: Credits
    voided: Credits
    overage: Credits
    """Of this period, less what was taken back of it."""
    reversed: Credits = NO_CREDITS  # As a row has it that was written before there were reversals.
    overage_returned: Credits = NO_CREDITS
    """Overage of closed periods that was taken back: their statements have billed it."""


NO_TOTALS: Final = PeriodTotals(*[NO_CREDITS] * 8)

THRESHOLDS_DEFAULT: Final = (80, 100, 110)
"""Percent of the period's credits (product.md section 4)."""
LIMIT_REACHED: Final = 0
"""Among the alerts that were sent: the first denial of the period."""


@dataclass(frozen=True, slots=True)
class TopupPolicy:
    """Below `threshold` a pack is bought, for at most `credits_max` in one period."""

    threshold: Credits
    pack_id: str
    credits_max: Credits


class TopupState(NamedTuple):
    """What automatic top-up has come to: of a fixed size, whatever happens."""

    orders: int
    """So many were made: the newest has this number."""
    open_order: int
    """The one that is not answered yet; 0: none."""
    open_credits: Credits
    armed: bool
    """Whether the next fall below the threshold buys: not before the account was above it, or a period began."""
    bought: Credits
    """In this period."""
    declines: int
    """In a row."""
    not_before: Instant
    """No order before this, after a decline."""


NO_TOPUP: Final = TopupState(
    0, 0, NO_CREDITS, armed=True, bought=NO_CREDITS, declines=0, not_before=Instant(0)
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the account's owner has decided (Billing Settings)."""

    overage_ceiling: Credits | None = None
    """Most credits of overage in one period; None: overage protection is on, nothing is used beyond the grants."""
    thresholds: tuple[int, ...] = THRESHOLDS_DEFAULT
    topup: TopupPolicy | None = None


DEFAULT_POLICY: Final = Policy()


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside for work that was asked for."""

    hold_id: str
    credits: Credits
    shares: tuple[GrantShare, ...]
    """The exact grants it took from, in burn order; last, under the name `OVERAGE`, what would be overage."""
    price_book: str
    """The book in force when it was placed: its price is locked."""
    expires_at: Instant
    """Half open: from this instant on nothing can be captured."""


REVERSAL_DAYS_MAX: Final = 35
"""How old a charge may be at most to be taken back. A deployment may choose less, and change its mind: what was taken
back is remembered for as long as it could be asked for again."""


class Reversed(NamedTuple):
    """What was taken back of one charge."""

    offset: int
    """Of the usage in the log."""
    accepted_at: Instant
    credits: Credits


class UsedUp(NamedTuple):
    """A grant of which nothing is left or held."""

    grant_id: GrantId
    since: Instant
    """When that was first seen; it has paid for nothing since."""


class BilledOverage(NamedTuple):
    """The overage of a closed period, young enough to be taken back."""

    last_entry_seq: int
    """The period had the entries up to here, from where the one before it ended."""
    period_end: Instant
    price: str | None
    """Money for one credit, as its statement has it; None where the plan had no price."""
    currency: str
    returned: Credits
    """What was taken back of it in the running period."""


class Account(NamedTuple):
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
    """What `holds` took from grants. What can be used is `posted` less this, and room for overage."""
    totals: PeriodTotals
    next_boundary: int
    """When time alone changes this account next."""
    closed: bool
    policy: Policy
    alerted: tuple[int, ...]
    """Thresholds whose alert was sent in this period and not re-armed since; `LIMIT_REACHED` among them."""
    reversals: tuple[Reversed, ...] = ()
    """Of usage that is young enough to be taken back."""
    billed: tuple[BilledOverage, ...] = ()
    """In the order of the periods."""
    topup: TopupState = NO_TOPUP
    used_up: tuple[UsedUp, ...] = ()
    """Grants that wait to leave (`used_up.tidied`), in burn order; one that has left since may stand here still."""


def without_old_reversals(account: Account, at: int) -> Account:
    """Forget what was taken back of charges that are too old by now to be taken back at all."""
    if not account.reversals:
        return account
    before = at - REVERSAL_DAYS_MAX * DAY_MS
    return account._replace(
        reversals=tuple([each for each in account.reversals if each.accepted_at >= before])
    )


def overage_room(account: Account) -> Credits:
    """How much overage may still be used in this period: the ceiling less what is booked and what holds set aside."""
    ceiling = account.policy.overage_ceiling
    if ceiling is None or account.closed:
        return NO_CREDITS
    held = sum(
        [share.credits for hold in account.holds for share in hold.shares if share.grant_id == OVERAGE]
    )
    return Credits(max(0, ceiling - account.totals.overage - held))


def available(account: Account) -> Credits:
    """What a request can use now."""
    if account.policy.overage_ceiling is None:
        return Credits(account.posted - account.held)
    return Credits(account.posted - account.held + overage_room(account))


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
