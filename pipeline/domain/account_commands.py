"""Carrying out account commands: what each does to one account, or why it is refused.

A refusal is an answer like any other: it uses up the command's id, and a resend is told the same.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from pipeline.domain.account import Account, TopupPolicy
from pipeline.domain.alerts import rearmed
from pipeline.domain.answers import Answer, Obeyed, PlanChange, Refused, TopupAnswered
from pipeline.domain.commands import (
    AnswerTopup,
    CaptureHold,
    ChangePlan,
    CloseAccount,
    Command,
    Configure,
    IssueGrant,
    OpenAccount,
    PlaceHold,
    ReadmitUsage,
    ReleaseHold,
    RerateUsage,
    ReverseUsage,
    VoidGrant,
)
from pipeline.domain.credits import format_credits
from pipeline.domain.grants import GRANTS_MAX, KIND_PRIORITIES, Grant, GrantId
from pipeline.domain.hold_commands import Surroundings, capture_hold, place_hold, release_hold
from pipeline.domain.instants import Instant, format_instant
from pipeline.domain.ledger import Cause, give, void
from pipeline.domain.period import months_after
from pipeline.domain.plans import Plan
from pipeline.domain.reasons import Reason
from pipeline.domain.subscriptions import Booked, change_at_boundary, close, open_account, upgrade
from pipeline.domain.topup import declined, succeeded
from pipeline.domain.used_up import tidied, with_place


def obey(command: Command, account: Account | None, around: Surroundings) -> Answer:
    """Carry out a command on an account that was advanced to the present (None: it is not open)."""
    body = command.body
    if isinstance(body, OpenAccount):
        return _open(command, account, body, around)
    if account is None:
        return Refused(Reason.UNKNOWN_ACCOUNT, f"expected an open account, got {command.account_id!r}")
    if account.closed:
        return Refused(Reason.ACCOUNT_CLOSED, f"account {command.account_id!r} was closed")
    match body:
        case ReadmitUsage() | ReverseUsage() | RerateUsage():
            raise AssertionError("what corrects past usage is judged by the rules for it")
        case PlaceHold():
            return place_hold(account, body, around)
        case CaptureHold():
            return capture_hold(account, body, around)
        case ReleaseHold():
            return release_hold(account, body, around)
        case _:
            return _obey_terms(account, body, around)


def _obey_terms(
    account: Account,
    body: IssueGrant | VoidGrant | ChangePlan | CloseAccount | Configure | AnswerTopup,
    around: Surroundings,
) -> Answer:
    match body:
        case IssueGrant():
            return _issue(account, body, around)
        case VoidGrant():
            return _void(account, body, around.cause, around.at)
        case ChangePlan():
            return _change_plan(account, body, around)
        case CloseAccount():
            plan = around.plans[account.subscription.plan_id]
            return Obeyed(*close(account, plan, around.cause, around.at))
        case Configure():
            return _configure(account, body, around)
        case AnswerTopup():
            return _answer_topup(account, body, around)
        case _:
            assert_never(body)


def _open(command: Command, account: Account | None, body: OpenAccount, around: Surroundings) -> Answer:
    if account is not None:
        state = (
            "was closed" if account.closed else f"is open already, on plan {account.subscription.plan_id!r}"
        )
        return Refused(Reason.ACCOUNT_EXISTS, f"account {command.account_id!r} {state}")
    plan = around.plans.get(body.plan_id)
    if plan is None:
        return _unknown_plan(body.plan_id, around.plans)
    return Obeyed(*open_account(command.account_id, plan, around.cause, around.at))


def _issue(account: Account, body: IssueGrant, around: Surroundings) -> Answer:
    at = around.at
    live = (*account.grants, *account.pending)
    if any(each.grant_id == body.grant_id for each in live):
        return Refused(Reason.GRANT_EXISTS, f"grant {body.grant_id!r} is there already")
    roomy = with_place(account, at)
    if roomy is None:
        return _too_many_grants()
    if body.expires_at is not None and body.expires_at <= at:
        return Refused(Reason.GRANT_EXPIRED, f"expires_at {format_instant(body.expires_at)} has passed")
    begins = at if body.effective_at is None else Instant(max(at, body.effective_at))
    ends = body.expires_at
    if body.expires_by_default and around.prepaid_months:
        ends = months_after(begins, around.prepaid_months)
    grant = Grant(body.grant_id, body.kind, body.priority, body.credits, begins, ends, at, body.source)
    account, entries = give(roomy, grant, around.cause, at)
    if entries:  # One that begins later makes the limit larger then.
        account = rearmed(account, around.plans[account.subscription.plan_id])
    return Obeyed(account, Booked(entries))


def _void(account: Account, body: VoidGrant, cause: Cause, at: Instant) -> Answer:
    for grant in (*account.grants, *account.pending):
        if grant.grant_id == body.grant_id:
            account, entries = void(account, grant, cause, at)
            return Obeyed(account, Booked(entries))
    return Refused(Reason.UNKNOWN_GRANT, f"expected a live grant, got {body.grant_id!r}")


def _change_plan(account: Account, body: ChangePlan, around: Surroundings) -> Answer:
    """Upgrade at once; downgrade, cancel (a change to the free plan) and a change of mind at the boundary. So does an
    upgrade to a plan that could not bill the overage that is booked."""
    plans = around.plans
    new = plans.get(body.plan_id)
    if new is None:
        return _unknown_plan(body.plan_id, plans)
    subscription = account.subscription
    if new.plan_id == subscription.next_plan_id:
        return Refused(
            Reason.PLAN_UNCHANGED, f"the plan is, or at the period's end becomes, {new.plan_id!r} already"
        )
    old = plans[subscription.plan_id]
    if new.outranks(old) and not (account.totals.overage and new.overage_price is None):
        roomy = with_place(account, around.at)
        if roomy is None:
            return _too_many_grants()
        change = PlanChange(new.plan_id, around.at)
        return Obeyed(*upgrade(roomy, old, new, around.cause, around.at), plan_change=change)
    change = PlanChange(new.plan_id, subscription.period_end)
    return Obeyed(change_at_boundary(account, new), Booked(), plan_change=change)


def _configure(account: Account, body: Configure, around: Surroundings) -> Answer:
    """Billing settings. Overage needs a plan that has a price for it, and always a ceiling."""
    policy = account.policy
    plan = around.plans[account.subscription.plan_id]
    if body.sets_overage:
        if body.overage_ceiling is not None and plan.overage_price is None:
            return Refused(Reason.OVERAGE_NOT_OFFERED, f"plan {plan.plan_id!r} has no price for overage")
        policy = replace(policy, overage_ceiling=body.overage_ceiling)
    if body.thresholds is not None:
        policy = replace(policy, thresholds=body.thresholds)
    if body.sets_topup:
        fault = None if body.topup is None else _topup_fault(body.topup, plan)
        if fault is not None:
            return fault
        policy = replace(policy, topup=body.topup)
        account = account._replace(topup=account.topup._replace(armed=True))
    return Obeyed(account._replace(policy=policy), Booked())


def _topup_fault(topup: TopupPolicy, plan: Plan) -> Refused | None:
    """A pack that reaches the threshold by itself ends every crossing with one purchase; the cap must let it pass."""
    pack = plan.packs.get(topup.pack_id)
    if pack is None:
        known = ", ".join(plan.packs) or "none"
        return Refused(
            Reason.UNKNOWN_PACK, f"expected a pack of plan {plan.plan_id!r} ({known}), got {topup.pack_id!r}"
        )
    if pack.credits < topup.threshold:
        detail = f"expected a pack of at least the threshold {format_credits(topup.threshold)}"
        return Refused(
            Reason.PACK_TOO_SMALL, f"{detail}, {pack.pack_id!r} has {format_credits(pack.credits)}"
        )
    if topup.credits_max < pack.credits:
        detail = f"expected a cap of at least one pack, {format_credits(pack.credits)}"
        return Refused(Reason.CAP_TOO_SMALL, f"{detail}, got {format_credits(topup.credits_max)}")
    return None


def _answer_topup(account: Account, body: AnswerTopup, around: Surroundings) -> Answer:
    """The provider's answer to the open order. What was paid is given, whatever the limits say."""
    number, state = body.order, account.topup
    if number > state.orders:
        return Refused(Reason.UNKNOWN_ORDER, f"expected an order up to {state.orders}, got {number}")
    if number != state.open_order:
        return Refused(Reason.ORDER_ANSWERED, f"order {number} was answered before")
    if not body.succeeded:
        account = declined(account, around.at)
        return Obeyed(account, Booked(), topup=TopupAnswered(number, account.topup.not_before))
    at, months = around.at, around.prepaid_months
    grant = Grant(
        GrantId(f"topup:{number}"),
        "prepaid",
        KIND_PRIORITIES["prepaid"],
        state.open_credits,
        at,
        months_after(at, months) if months else None,
        at,
        "top-up",
    )
    account, entries = give(tidied(succeeded(account), at), grant, around.cause, at)
    account = rearmed(account, around.plans[account.subscription.plan_id])
    return Obeyed(account, Booked(entries), topup=TopupAnswered(number, None))


def _too_many_grants() -> Refused:
    return Refused(Reason.TOO_MANY_GRANTS, f"expected at most {GRANTS_MAX} grants that are not used up")


def _unknown_plan(plan_id: str, plans: Mapping[str, Plan]) -> Refused:
    return Refused(Reason.UNKNOWN_PLAN, f"expected one of {', '.join(plans)}, got {plan_id!r}")
