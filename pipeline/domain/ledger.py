"""The ledger of one account: entries are posted, never changed, and their sum is the balance.

Pure: an account goes in, a new account and the entries come out. Entries are numbered without a gap and chained by
a hash, so that a missing or altered one shows (the text that is hashed: `schemas/ledger_entry.py`).

Time passes for an account through `advance`: grants take effect and expire at their own instants, whatever wakes
the account up. Every other function expects an account that was advanced to the present.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import NEVER, Grant, GrantShare, burn_down, burn_order
from pipeline.domain.instants import Instant
from pipeline.domain.plans import Plan
from pipeline.domain.reasons import Reason
from pipeline.domain.usage import AccountId

EntryKind: TypeAlias = Literal["grant", "usage", "overage", "expiration", "void", "reversal"]

FIRST_HASH: Final = "0" * 32
"""What the first entry of an account names as its predecessor."""


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that future decisions about one account need.

    `grants` are in effect and in burn order, `remaining` is what is left of each; `pending` have not begun.
    """

    account_id: AccountId
    plan_id: str
    opened_at: Instant
    """The anchor of its periods."""
    period_start: Instant
    period_end: Instant
    grants: tuple[Grant, ...]
    remaining: tuple[Credits, ...]
    pending: tuple[Grant, ...]
    entry_seq: int
    entry_hash: str
    posted: Credits
    """The sum of all entries, which is the sum of `remaining`."""
    next_boundary: int
    """When time alone changes this account next; `NEVER` if nothing is due."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What an entry is booked for, and where in the log it stands."""

    source: str
    cause_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
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


def open_account(account_id: AccountId, plan: Plan, *, at: Instant, period_end: Instant) -> Account:
    """A new account on a plan, without credits yet."""
    return Account(account_id, plan.plan_id, at, at, period_end, (), (), (), 0, FIRST_HASH, NO_CREDITS, NEVER)


def denial(account: Account, required: Credits, plan: Plan) -> Reason | None:
    """Why the account may not use `required` credits now, or None if it may (product.md section 3).

    Cost-aware: what counts is whether this request fits, not whether anything is left.
    """
    available = account.posted  # Less what is held, once there are holds.
    if required <= available:
        return None
    if available > 0:
        return Reason.INSUFFICIENT_CREDITS
    return Reason.CREDITS_EXHAUSTED if plan.paid else Reason.PLAN_PAUSED


def use(account: Account, amount: Credits, cause: Cause, at: Instant) -> tuple[Account, LedgerEntry]:
    """Charge usage that `denial` has let through: burn down the grants and post the entry."""
    remaining, shares = burn_down(account.grants, account.remaining, amount)
    entry = _next_entry(account, "usage", Credits(-amount), shares, cause, at)
    return _posted(account, entry, account.grants, remaining), entry


def give(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, list[LedgerEntry]]:
    """Add a grant. One that begins later waits and is posted when it takes effect, by `advance`."""
    if grant.effective_at > at:
        pending = tuple(
            sorted((*account.pending, grant), key=lambda each: (each.effective_at, each.grant_id))
        )
        return _with_pending(account, pending), []
    account, entry = _post_grant(account, grant, cause, at)
    return account, [entry]


def void(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, list[LedgerEntry]]:
    """Take back what is left of a grant; it leaves the account. What was used stays used."""
    if grant in account.pending:
        return _with_pending(account, tuple(each for each in account.pending if each != grant)), []
    return _end_grant(account, grant, "void", cause, at)


def advance(account: Account, to: int, cause: Cause) -> tuple[Account, list[LedgerEntry]]:
    """Let time pass: what takes effect or expires until `to`, inclusive, in order of its instant.

    At one instant expiries come first, then what begins. Entries are booked at the instant of the rule.
    """
    entries: list[LedgerEntry] = []
    while account.next_boundary <= to:
        at = Instant(account.next_boundary)
        for grant in [each for each in account.grants if each.expires_at == at]:
            account, ended = _end_grant(account, grant, "expiration", _cause_of(grant, cause), at)
            entries += ended
        for grant in [each for each in account.pending if each.effective_at == at]:
            waiting = tuple(each for each in account.pending if each is not grant)
            account, entry = _post_grant(_with_pending(account, waiting), grant, _cause_of(grant, cause), at)
            entries.append(entry)
    return account, entries


def _cause_of(grant: Grant, cause: Cause) -> Cause:
    return Cause("", grant.grant_id, cause.partition, cause.offset)


def _post_grant(account: Account, grant: Grant, cause: Cause, at: Instant) -> tuple[Account, LedgerEntry]:
    order = burn_order(grant)
    place = sum(burn_order(each) < order for each in account.grants)
    grants = (*account.grants[:place], grant, *account.grants[place:])
    remaining = (*account.remaining[:place], grant.credits, *account.remaining[place:])
    entry = _next_entry(
        account, "grant", grant.credits, (GrantShare(grant.grant_id, grant.credits),), cause, at
    )
    return _posted(account, entry, grants, remaining), entry


def _end_grant(
    account: Account, grant: Grant, kind: EntryKind, cause: Cause, at: Instant
) -> tuple[Account, list[LedgerEntry]]:
    place = account.grants.index(grant)
    left = account.remaining[place]
    grants = account.grants[:place] + account.grants[place + 1 :]
    remaining = account.remaining[:place] + account.remaining[place + 1 :]
    if not left:
        return _posted(account, None, grants, remaining), []
    entry = _next_entry(account, kind, Credits(-left), (GrantShare(grant.grant_id, left),), cause, at)
    return _posted(account, entry, grants, remaining), [entry]


def _next_entry(
    account: Account,
    kind: EntryKind,
    credits: Credits,  # noqa: A002  (the product's word)
    shares: tuple[GrantShare, ...],
    cause: Cause,
    at: Instant,
) -> LedgerEntry:
    seq = account.entry_seq + 1
    balance = Credits(account.posted + credits)
    sign = "-" if credits < 0 else ""
    split = ",".join([f"{share.grant_id}:{sign}{share.credits}" for share in shares])
    text = (
        f"{account.entry_hash}\n{account.account_id}\n{seq}\n{kind}\n{credits}\n{balance}\n{at}\n"
        f"{cause.partition}\n{cause.offset}\n{cause.cause_id}\n{split}"
    )
    entry_hash = blake2b(text.encode(), digest_size=16).hexdigest()
    return LedgerEntry(
        account.account_id, seq, kind, credits, balance, at, cause, shares, account.entry_hash, entry_hash
    )


def _posted(
    account: Account, entry: LedgerEntry | None, grants: tuple[Grant, ...], remaining: tuple[Credits, ...]
) -> Account:
    """The account after an entry; without one, only its grants changed."""
    same = grants is account.grants  # Usage moves no boundary: the common case looks at no grant.
    boundary = account.next_boundary if same else next_boundary(grants, account.pending)
    return Account(
        account.account_id,
        account.plan_id,
        account.opened_at,
        account.period_start,
        account.period_end,
        grants,
        remaining,
        account.pending,
        account.entry_seq if entry is None else entry.entry_seq,
        account.entry_hash if entry is None else entry.entry_hash,
        account.posted if entry is None else entry.balance_after,
        boundary,
    )


def _with_pending(account: Account, pending: tuple[Grant, ...]) -> Account:
    return Account(
        account.account_id,
        account.plan_id,
        account.opened_at,
        account.period_start,
        account.period_end,
        account.grants,
        account.remaining,
        pending,
        account.entry_seq,
        account.entry_hash,
        account.posted,
        next_boundary(account.grants, pending),
    )


def next_boundary(grants: Sequence[Grant], pending: Sequence[Grant]) -> int:
    """The next instant at which time alone changes the account."""
    expiries = [each.expires_at for each in grants if each.expires_at is not None]
    return min([NEVER, *expiries, *[each.effective_at for each in pending]])
