"""How time passes for an account: grants begin and expire, periods end and begin, each at its own instant.

Whatever wakes the account up (its own event, or a tick when it is idle), the result is the same: everything that was
due is booked at the instant of the rule, in order. At one instant: what expires, then the statement that closes the
period, then the new period with its monthly grant, then what else begins. Holds that end come before all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from pipeline.domain.account import (
    DEFAULT_POLICY,
    FIRST_HASH,
    NO_TOTALS,
    REVERSAL_DAYS_MAX,
    Account,
    BilledOverage,
    Hold,
    PeriodTotals,
    Subscription,
    boundary_of,
    without_old_reversals,
)
from pipeline.domain.alerts import Alert, rearmed
from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import KIND_PRIORITIES, NEVER, OVERAGE, Grant, GrantId
from pipeline.domain.holds import settle
from pipeline.domain.instants import DAY_MS, Instant, format_instant
from pipeline.domain.ledger import Cause, LedgerEntry, end_grant, post_grant, with_pending
from pipeline.domain.period import months_after
from pipeline.domain.plans import Plan, PlanCatalog, plans_in_force
from pipeline.domain.reasons import Reason
from pipeline.domain.usage import AccountId
from pipeline.domain.used_up import tidied


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A closed period of one account. Made once, by the fold, and never changed (product.md section 2)."""

    account_id: AccountId
    plan_id: str
    period_start: Instant
    period_end: Instant
    totals: PeriodTotals
    closing: Credits
    overage_price: Decimal | None
    """Money for one credit of `totals.overage`, by the plan of the period."""
    currency: str
    returns: tuple[BilledOverage, ...]
    """Overage of closed periods that was taken back in this one, and what it was billed at."""
    last_entry_seq: int
    """The statement covers the entries up to here, from where the one before it ended."""


class EndedHold(NamedTuple):
    """How a hold ended: `hold_captured`, `hold_released` or `hold_expired`, exactly one of them."""

    hold_id: str
    end: Reason
    charged: Credits
    at: Instant


@dataclass(slots=True)
class Booked:
    """What a change of an account posted, in order."""

    entries: list[LedgerEntry] = field(default_factory=list[LedgerEntry])
    statements: list[Statement] = field(default_factory=list[Statement])
    alerts: list[Alert] = field(default_factory=list[Alert])
    ended_holds: list[EndedHold] = field(default_factory=list[EndedHold])
    """Holds that ended, and how: remembered as long as any identity, so that a late capture gets its reason."""


def open_account(account_id: AccountId, plan: Plan, cause: Cause, at: Instant) -> tuple[Account, Booked]:
    """A new account on a plan, with its first monthly grant. The anchor of its periods is now."""
    subscription = _first_period(plan, at)
    account = Account(
        account_id,
        subscription,
        grants=(),
        remaining=(),
        pending=(),
        entry_seq=0,
        entry_hash=FIRST_HASH,
        posted=NO_CREDITS,
        holds=(),
        held=NO_CREDITS,
        totals=NO_TOTALS,
        next_boundary=subscription.period_end,
        closed=False,
        policy=DEFAULT_POLICY,
        alerted=(),
    )
    booked = Booked()
    return _with_monthly_grant(account, plan, cause, at, booked), booked


def advance(
    account: Account, to: int, catalogs: Sequence[PlanCatalog], cause: Cause
) -> tuple[Account, Booked]:
    """Let time pass until `to`, inclusive. Each boundary goes by the plans that were in force at its own instant."""
    booked = Booked()
    while account.next_boundary <= to:
        at = Instant(account.next_boundary)
        for hold in [each for each in account.holds if each.expires_at == at]:
            account = release(account, hold, Reason.HOLD_EXPIRED, cause, at, booked)
        for grant in [each for each in account.grants if each.expires_at == at]:
            account, entries = end_grant(account, grant, "expiration", _cause_of(grant.grant_id, cause), at)
            booked.entries += entries
        if account.subscription.period_end == at:
            account = _begin_period(account, catalogs, cause, at, booked)
        for grant in [each for each in account.pending if each.effective_at == at]:
            waiting = tuple(each for each in account.pending if each is not grant)
            account = with_pending(account, waiting)
            account, entry = post_grant(account, grant, _cause_of(grant.grant_id, cause), at)
            account = rearmed(account, plans_in_force(catalogs, at)[account.subscription.plan_id])
            booked.entries.append(entry)
        if account.next_boundary <= at:  # It was woken up for a top-up, which is the caller's to consider.
            account = _with_subscription(account, account.subscription)
    return account, booked


def upgrade(account: Account, old: Plan, new: Plan, cause: Cause, at: Instant) -> tuple[Account, Booked]:
    """Change to a larger plan at once: a second monthly grant of the difference, used credits stay used.

    The anchor stays and the new grant ends with the period; from a free plan a new period begins now, and what is
    left of the free credits keeps its own expiry, so that nothing unused is lost.
    """
    booked = Booked()
    if old.paid:
        subscription = replace(account.subscription, plan_id=new.plan_id, next_plan_id=new.plan_id)
    else:
        account = _closed_period(account, old, at, booked)
        subscription = _first_period(new, at)
    account = _by_offer(_with_subscription(account, subscription), new)
    grant_id = f"upgrade:{format_instant(at)[:10]}:{new.plan_id}"
    difference = Credits(new.monthly_credits - old.monthly_credits)
    grant = _monthly(grant_id, new, difference, at, subscription.period_end)
    account, entry = post_grant(account, grant, cause, at)
    booked.entries.append(entry)
    return rearmed(account, new), booked


def change_at_boundary(account: Account, plan: Plan) -> Account:
    """Downgrade or cancel: the plan takes its place when the period ends. The newest wish counts."""
    return account._replace(subscription=replace(account.subscription, next_plan_id=plan.plan_id))


def close(account: Account, plan: Plan, cause: Cause, at: Instant) -> tuple[Account, Booked]:
    """Close the account for good: what is left is voided, and the running period gets its statement."""
    booked = Booked()
    account = account._replace(pending=())
    for hold in account.holds:
        account = release(account, hold, Reason.HOLD_RELEASED, cause, at, booked)
    for grant in account.grants:
        account, entries = end_grant(account, grant, "void", cause, at)
        booked.entries += entries
    account = _closed_period(account, plan, at, booked)
    return account._replace(closed=True, next_boundary=NEVER, used_up=()), booked


def release(account: Account, hold: Hold, end: Reason, cause: Cause, at: Instant, booked: Booked) -> Account:
    """Give a hold back."""
    settled = settle(account, hold, NO_CREDITS, cause, at)
    booked.entries += settled.entries
    booked.ended_holds.append(EndedHold(hold.hold_id, end, NO_CREDITS, at))
    return settled.account


def _begin_period(
    account: Account, catalogs: Sequence[PlanCatalog], cause: Cause, at: Instant, booked: Booked
) -> Account:
    """The period that ends is billed by the plans of its last millisecond: those of `at` begin with the next one."""
    before = account.subscription
    account = _closed_period(account, plans_in_force(catalogs, at - 1)[before.plan_id], at, booked)
    plan = plans_in_force(catalogs, at)[before.next_plan_id]
    months = before.months_to_end + plan.period_months
    end = months_after(before.anchor, months)
    subscription = Subscription(plan.plan_id, before.anchor, months, at, end, plan.plan_id)
    account = _by_offer(tidied(_with_subscription(account, subscription), at), plan)
    return _with_monthly_grant(account, plan, _cause_of(plan.plan_id, cause), at, booked)


def _by_offer(account: Account, plan: Plan) -> Account:
    """On a plan that has no price for overage protection is on again, and holds keep what they took from grants: so
    nothing is ever used that nobody can bill. Whoever comes back to a plan that has one turns it off anew."""
    if plan.overage_price is not None:
        return account
    holds = tuple([_within_grants(each) for each in account.holds])
    return account._replace(policy=replace(account.policy, overage_ceiling=None), holds=holds)


def _within_grants(hold: Hold) -> Hold:
    last = hold.shares[-1] if hold.shares else None
    if last is None or last.grant_id != OVERAGE:
        return hold
    return replace(hold, credits=Credits(hold.credits - last.credits), shares=hold.shares[:-1])


def _closed_period(account: Account, plan: Plan, at: Instant, booked: Booked) -> Account:
    """The account with new totals, and the statement of the old ones."""
    subscription = account.subscription
    booked.statements.append(
        Statement(
            account_id=account.account_id,
            plan_id=subscription.plan_id,
            period_start=subscription.period_start,
            period_end=at,
            totals=account.totals,
            closing=account.posted,
            overage_price=plan.overage_price,
            currency=plan.currency,
            returns=tuple([each for each in account.billed if each.returned]),
            last_entry_seq=account.entry_seq,
        )
    )
    account = _with_billed(without_old_reversals(account, at), plan, at)
    topup = account.topup._replace(armed=True, bought=NO_CREDITS)
    return account._replace(totals=NO_TOTALS._replace(opening=account.posted), alerted=(), topup=topup)


def _with_billed(account: Account, plan: Plan, at: Instant) -> Account:
    """Remember what the closed period has billed for as long as it can be taken back."""
    billed = account.billed
    if billed:
        before = at - REVERSAL_DAYS_MAX * DAY_MS
        billed = tuple([each._replace(returned=NO_CREDITS) for each in billed if each.period_end >= before])
    if account.totals.overage:
        price = None if plan.overage_price is None else format(plan.overage_price, "f")
        billed = (*billed, BilledOverage(account.entry_seq, at, price, plan.currency, NO_CREDITS))
    return account._replace(billed=billed)


def _with_monthly_grant(account: Account, plan: Plan, cause: Cause, at: Instant, booked: Booked) -> Account:
    if not plan.monthly_credits:
        return account
    grant_id = f"monthly:{format_instant(at)[:10]}"
    grant = _monthly(grant_id, plan, plan.monthly_credits, at, account.subscription.period_end)
    account, entry = post_grant(account, grant, cause, at)
    booked.entries.append(entry)
    return account


def _monthly(grant_id: str, plan: Plan, amount: Credits, at: Instant, expires_at: Instant) -> Grant:
    priority = KIND_PRIORITIES["monthly"]
    return Grant(GrantId(grant_id), "monthly", priority, amount, at, expires_at, at, plan.plan_id)


def _first_period(plan: Plan, at: Instant) -> Subscription:
    months = plan.period_months
    return Subscription(plan.plan_id, at, months, at, months_after(at, months), plan.plan_id)


def _with_subscription(account: Account, subscription: Subscription) -> Account:
    boundary = boundary_of(
        subscription, account.grants, account.pending, account.holds, closed=account.closed
    )
    return account._replace(subscription=subscription, next_boundary=boundary)


def _cause_of(name: str, cause: Cause) -> Cause:
    """What time brought has no source, and is named by what it happened to."""
    return Cause("", name, cause.partition, cause.offset)
