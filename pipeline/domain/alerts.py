"""Alerts, decided in the same fold as the debit (product.md section 4).

At equality too; each threshold once for an account and period; a jump past several sends the highest; re-armed by the
next period or a larger limit. The first denial of a period sends `limit_reached`, once: at 99 of 100 with a 2-credit
price, 100 % is never reached.
"""

from dataclasses import dataclass

from pipeline.domain.account import LIMIT_REACHED, Account
from pipeline.domain.credits import Credits
from pipeline.domain.instants import Instant
from pipeline.domain.plans import Plan
from pipeline.domain.usage import AccountId


@dataclass(frozen=True, slots=True)
class Alert:
    account_id: AccountId
    threshold: int
    """Percent, or `LIMIT_REACHED`."""
    used: Credits
    base: Credits
    period_start: Instant
    period_end: Instant
    entry_seq: int
    """The account's newest entry then: with period and threshold it names the alert, in every replay the same."""


def usage_and_base(account: Account, plan: Plan) -> tuple[Credits, Credits]:
    """What the percentage is of: used (captured, not held, less what was taken back) over the period's credits.

    The period's credits are what it opened with and what was granted since, less voids; overage is beyond them. An
    account whose plan gives no monthly credits has the original amounts of its active grants instead.
    """
    totals = account.totals
    if plan.monthly_credits:
        used = Credits(max(0, totals.used - totals.reversed))
        return used, Credits(totals.opening + totals.granted - totals.voided)
    base = sum([grant.credits for grant in account.grants])
    live = {grant.grant_id for grant in account.grants}
    held = sum([each.credits for hold in account.holds for each in hold.shares if each.grant_id in live])
    return Credits(base - sum(account.remaining) - held + totals.overage), Credits(base)


def after_use(account: Account, plan: Plan) -> tuple[Account, Alert | None]:
    """The alert that a charge has earned, if any: the highest threshold that was reached and not yet sent."""
    thresholds, sent = account.policy.thresholds, account.alerted
    if not thresholds or thresholds[-1] in sent:
        return account, None
    used, base = usage_and_base(account, plan)
    reached = [each for each in thresholds if used * 100 >= each * base and each not in sent]
    if not reached or base <= 0:
        return account, None
    account = account._replace(alerted=(*sent, *reached))
    return account, _alert(account, reached[-1], used, base)


def after_denial(account: Account, plan: Plan) -> tuple[Account, Alert | None]:
    """`limit_reached`, at the first denial of a period."""
    if LIMIT_REACHED in account.alerted:
        return account, None
    account = account._replace(alerted=(LIMIT_REACHED, *account.alerted))
    return account, _alert(account, LIMIT_REACHED, *usage_and_base(account, plan))


def rearmed(account: Account, plan: Plan) -> Account:
    """After a larger limit: what is no longer reached may be sent again, and so may the next denial."""
    if not account.alerted:
        return account
    used, base = usage_and_base(account, plan)
    still = tuple([each for each in account.alerted if each != LIMIT_REACHED and used * 100 >= each * base])
    return account if still == account.alerted else account._replace(alerted=still)


def _alert(account: Account, threshold: int, used: Credits, base: Credits) -> Alert:
    period = account.subscription
    return Alert(
        account.account_id, threshold, used, base, period.period_start, period.period_end, account.entry_seq
    )
