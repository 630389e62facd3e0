"""The ledger of one account: entries are posted, never changed, and their sum is the balance.

Pure: an account goes in, a new account and the entries come out. Entries are numbered without a gap and chained by
a hash, so that a missing or altered one shows (the text that is hashed: `schemas/ledger_entry.py`).

Every function expects an account that `periods.advance` has brought to the present.
"""

from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

from pipeline.domain.account import Account, PeriodTotals, available, boundary_of
from pipeline.domain.credits import Credits
from pipeline.domain.grants import OVERAGE, Grant, GrantShare, burn_down, burn_order
from pipeline.domain.instants import Instant
from pipeline.domain.plans import Plan
from pipeline.domain.reasons import Reason
from pipeline.domain.usage import AccountId

EntryKind: TypeAlias = Literal["grant", "usage", "overage", "expiration", "void", "reversal"]


class Cause(NamedTuple):
    """What an entry is booked for, and where in the log it stands."""

    source: str
    cause_id: str
    partition: int
    offset: int


class LedgerEntry(NamedTuple):
    account_id: AccountId
    entry_seq: int
    kind: EntryKind
    credits: Credits
    """Signed."""
    balance_after: Credits
    booked_at: Instant
    cause: Cause
    shares: tuple[GrantShare, ...]
    previous_hash: str
    entry_hash: str


def denial(account: Account, required: Credits, plan: Plan) -> Reason | None:
    """Why the account may not use `required` credits now, or None if it may (product.md section 3).

    Cost-aware: what counts is whether this request fits, not whether anything is left.
    """
    if account.closed:
        return Reason.ACCOUNT_CLOSED
    fits = available(account)
    if required <= fits:
        return None
    if fits > 0:
        return Reason.INSUFFICIENT_CREDITS
    return Reason.CREDITS_EXHAUSTED if plan.paid else Reason.PLAN_PAUSED


def use(account: Account, amount: Credits, cause: Cause, at: Instant) -> tuple[Account, list[LedgerEntry]]:
    """Charge usage that `denial` has let through: burn down the grants and post the entry.

    What goes beyond the grants is posted as overage first: credits that are billed in money. So the balance is
    never below zero, and the sum of overage entries is what is owed.
    """
    remaining, shares = burn_down(account.grants, account.remaining, amount)
    return charge(account, remaining, shares, cause, at)


def charge(
    account: Account,
    remaining: tuple[Credits, ...],
    shares: tuple[GrantShare, ...],
    cause: Cause,
    at: Instant,
) -> tuple[Account, list[LedgerEntry]]:
    """Post the usage that these shares pay for, with the overage among them. The usage entry is the last."""
    entries: list[LedgerEntry] = []
    last = shares[-1]
    if last.grant_id == OVERAGE:
        overage = next_entry(account, "overage", last.credits, (last,), cause, at)
        account = posted(account, overage, account.grants, account.remaining)
        entries.append(overage)
    amount = Credits(-sum([share.credits for share in shares]))
    entry = next_entry(account, "usage", amount, shares, cause, at)
    entries.append(entry)
    return posted(account, entry, account.grants, remaining), entries


def give(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, list[LedgerEntry]]:
    """Add a grant. One that begins later waits and is posted when it takes effect."""
    if grant.effective_at > at:
        order = sorted((*account.pending, grant), key=lambda each: (each.effective_at, each.grant_id))
        return with_pending(account, tuple(order)), []
    account, entry = post_grant(account, grant, cause, at)
    return account, [entry]


def void(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, list[LedgerEntry]]:
    """Take back what is left of a grant; it leaves the account. What was used stays used."""
    if grant in account.pending:
        return with_pending(account, tuple(each for each in account.pending if each != grant)), []
    return end_grant(account, grant, "void", cause, at)


def post_grant(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, LedgerEntry]:
    """Put a grant that is in effect into its place in the burn order."""
    order = burn_order(grant)
    place = sum(burn_order(each) < order for each in account.grants)
    grants = (*account.grants[:place], grant, *account.grants[place:])
    remaining = (*account.remaining[:place], grant.credits, *account.remaining[place:])
    share = GrantShare(grant.grant_id, grant.credits)
    entry = next_entry(account, "grant", grant.credits, (share,), cause, at)
    return posted(account, entry, grants, remaining), entry


def end_grant(
    account: Account, grant: Grant, kind: EntryKind, cause: Cause, at: Instant
) -> tuple[Account, list[LedgerEntry]]:
    """Take a grant out of the account, with an entry if anything was left of it."""
    place = account.grants.index(grant)
    left = account.remaining[place]
    grants = account.grants[:place] + account.grants[place + 1 :]
    remaining = account.remaining[:place] + account.remaining[place + 1 :]
    if not left:
        return posted(account, None, grants, remaining), []
    entry = next_entry(account, kind, Credits(-left), (GrantShare(grant.grant_id, left),), cause, at)
    return posted(account, entry, grants, remaining), [entry]


def next_entry(
    account: Account,
    kind: EntryKind,
    amount: Credits,
    shares: tuple[GrantShare, ...],
    cause: Cause,
    at: Instant,
) -> LedgerEntry:
    """The account's next entry, chained to the one before."""
    seq = account.entry_seq + 1
    balance = Credits(account.posted + amount)
    sign = "-" if amount < 0 else ""
    split = ",".join([f"{share.grant_id}:{sign}{share.credits}" for share in shares])
    text = (
        f"{account.entry_hash}\n{account.account_id}\n{seq}\n{kind}\n{amount}\n{balance}\n{at}\n"
        f"{cause.partition}\n{cause.offset}\n{cause.cause_id}\n{split}"
    )
    entry_hash = blake2b(text.encode(), digest_size=16).hexdigest()
    return LedgerEntry(
        account.account_id, seq, kind, amount, balance, at, cause, shares, account.entry_hash, entry_hash
    )


def posted(
    account: Account, entry: LedgerEntry | None, grants: tuple[Grant, ...], remaining: tuple[Credits, ...]
) -> Account:
    """The account after an entry; without one, only its grants changed. Positional: one is built for every charge."""
    if grants is account.grants:  # Usage moves no boundary: the common case looks at no grant.
        boundary = account.next_boundary
    else:
        boundary = boundary_of(
            account.subscription, grants, account.pending, account.holds, closed=account.closed
        )
    return Account(
        account.account_id,
        account.subscription,
        grants,
        remaining,
        account.pending,
        account.entry_seq if entry is None else entry.entry_seq,
        account.entry_hash if entry is None else entry.entry_hash,
        account.posted if entry is None else entry.balance_after,
        account.holds,
        account.held,
        account.totals if entry is None else _added(account.totals, entry),
        boundary,
        account.closed,
        account.policy,
        account.alerted,
        account.reversals,
        account.billed,
        account.topup,
        account.used_up,
    )


def _added(totals: PeriodTotals, entry: LedgerEntry) -> PeriodTotals:
    opening, granted, used, expired, voided, overage, taken_back, returned = totals
    amount = entry.credits
    match entry.kind:
        case "usage":
            used = Credits(used - amount)
        case "grant":
            granted = Credits(granted + amount)
        case "expiration":
            expired = Credits(expired - amount)
        case "void":
            voided = Credits(voided - amount)
        case "overage":
            overage = Credits(overage + amount)
        case "reversal":
            taken_back = Credits(taken_back + amount)
    return PeriodTotals(opening, granted, used, expired, voided, overage, taken_back, returned)


def with_pending(account: Account, pending: tuple[Grant, ...]) -> Account:
    """The account with other grants waiting."""
    boundary = boundary_of(
        account.subscription, account.grants, pending, account.holds, closed=account.closed
    )
    return account._replace(pending=pending, next_boundary=boundary)
