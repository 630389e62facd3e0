"""Carrying out account commands: what each does to one account, or why it is refused.

A refusal is an answer like any other: it uses up the command's id, and a resend is told the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from pipeline.domain.commands import Command, IssueGrant, OpenAccount, VoidGrant
from pipeline.domain.grants import GRANTS_MAX, KIND_PRIORITIES, Grant, GrantId
from pipeline.domain.instants import Instant, format_instant
from pipeline.domain.ledger import Account, Cause, LedgerEntry, give, open_account, void
from pipeline.domain.period import months_after
from pipeline.domain.plans import Plan
from pipeline.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Obeyed:
    account: Account
    entries: Sequence[LedgerEntry]


@dataclass(frozen=True, slots=True)
class Refused:
    reason: Reason
    detail: str


Answer: TypeAlias = Obeyed | Refused


def obey(
    command: Command, account: Account | None, plans: Mapping[str, Plan], cause: Cause, at: Instant
) -> Answer:
    """Carry out a command on an account that was advanced to `at` (None: it is not open)."""
    body = command.body
    if isinstance(body, OpenAccount):
        return _open(command, account, body, plans, cause, at)
    if account is None:
        return Refused(Reason.UNKNOWN_ACCOUNT, f"expected an open account, got {command.account_id!r}")
    match body:
        case IssueGrant():
            return _issue(account, body, cause, at)
        case VoidGrant():
            return _void(account, body, cause, at)
        case _:
            assert_never(body)


def _open(
    command: Command,
    account: Account | None,
    body: OpenAccount,
    plans: Mapping[str, Plan],
    cause: Cause,
    at: Instant,
) -> Answer:
    """Open the account; its first monthly grant follows at once and expires with the period."""
    if account is not None:
        detail = f"account {command.account_id!r} is open already, on plan {account.plan_id!r}"
        return Refused(Reason.ACCOUNT_EXISTS, detail)
    plan = plans.get(body.plan_id)
    if plan is None:
        return Refused(Reason.UNKNOWN_PLAN, f"expected one of {', '.join(plans)}, got {body.plan_id!r}")
    period_end = months_after(at, plan.period_months)
    account = open_account(command.account_id, plan, at=at, period_end=period_end)
    if not plan.monthly_credits:
        return Obeyed(account, ())
    grant_id = GrantId(f"monthly:{format_instant(at)[:10]}")
    priority = KIND_PRIORITIES["monthly"]
    grant = Grant(grant_id, "monthly", priority, plan.monthly_credits, at, period_end, at, plan.plan_id)
    return Obeyed(*give(account, grant, cause, at))


def _issue(account: Account, body: IssueGrant, cause: Cause, at: Instant) -> Answer:
    live = (*account.grants, *account.pending)
    if any(each.grant_id == body.grant_id for each in live):
        return Refused(Reason.GRANT_EXISTS, f"grant {body.grant_id!r} is there already")
    if len(live) >= GRANTS_MAX:
        return Refused(Reason.TOO_MANY_GRANTS, f"expected at most {GRANTS_MAX} live grants")
    if body.expires_at is not None and body.expires_at <= at:
        return Refused(Reason.GRANT_EXPIRED, f"expires_at {format_instant(body.expires_at)} has passed")
    begins = at if body.effective_at is None else Instant(max(at, body.effective_at))
    grant = Grant(
        body.grant_id, body.kind, body.priority, body.credits, begins, body.expires_at, at, body.source
    )
    return Obeyed(*give(account, grant, cause, at))


def _void(account: Account, body: VoidGrant, cause: Cause, at: Instant) -> Answer:
    for grant in (*account.grants, *account.pending):
        if grant.grant_id == body.grant_id:
            return Obeyed(*void(account, grant, cause, at))
    return Refused(Reason.UNKNOWN_GRANT, f"expected a live grant, got {body.grant_id!r}")
