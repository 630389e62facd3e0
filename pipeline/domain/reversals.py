"""Reversals: a charge is taken back, whole or in part, at most as far as it was charged (product.md section 2).

The credits return to the grants that paid, in reverse order of use, so that what is left is as if only the smaller use
had ever been. What would return to a grant that has ended expires there and then, by an entry of its own, and the
answer says so. Overage that is taken back is not owed any more: it leaves the books as it came, beside the balance.
Where a statement has billed it, the running period gives it back at the price of that statement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.domain.account import Account, Reversed
from pipeline.domain.answers import Reversal
from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import OVERAGE, GrantShare
from pipeline.domain.instants import Instant
from pipeline.domain.ledger import Cause, LedgerEntry, next_entry, posted
from pipeline.domain.usage import UsageEvent

REVERSALS_MAX: Final = 1000
"""Usage events of one account of which something was taken back within the reversal window; bounds its state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastUsage:
    """A charge as its metered record tells it."""

    event: UsageEvent
    offset: int
    """Where in the log it was charged: by this the account remembers what was taken back of it."""
    entry_seq: int
    """The number of its entry in the account: by this the account knows the period that billed it."""
    accepted_at: Instant
    charged: Credits
    shares: tuple[GrantShare, ...]
    """In burn order; last, under the name `OVERAGE`, what was overage."""


def reversed_before(account: Account, usage: PastUsage) -> Credits:
    """How much of the charge was taken back already."""
    return next((each.credits for each in account.reversals if each.offset == usage.offset), NO_CREDITS)


def reverse(
    account: Account, usage: PastUsage, amount: Credits, cause: Cause, at: Instant
) -> tuple[Account, list[LedgerEntry], Reversal]:
    """Take back `amount` of the charge, of which so much is left."""
    before = reversed_before(account, usage)
    assert 0 < amount <= usage.charged - before, (usage, amount, before)
    shares = _from_the_end(usage.shares, before, amount)
    account = _remember(account, usage, Credits(before + amount))
    remaining, lost = _returned(account, shares, usage.accepted_at)
    account = _not_used_up(account, shares)
    entries = [next_entry(account, "reversal", amount, shares, cause, at)]
    account = posted(account, entries[0], account.grants, remaining)
    overage = Credits(sum([share.credits for share in shares if share.grant_id == OVERAGE]))
    if overage:
        entry = next_entry(account, "overage", Credits(-overage), (GrantShare(OVERAGE, overage),), cause, at)
        account = _not_owed(posted(account, entry, account.grants, account.remaining), usage, overage)
        entries.append(entry)
    expired = Credits(sum([share.credits for share in lost]))
    if expired:
        entry = next_entry(account, "expiration", Credits(-expired), lost, cause, at)
        account = posted(account, entry, account.grants, account.remaining)
        entries.append(entry)
    returned = Credits(amount - overage - expired)
    return account, entries, Reversal(usage.offset, amount, returned, expired, overage)


def _from_the_end(shares: Sequence[GrantShare], skipped: Credits, amount: Credits) -> tuple[GrantShare, ...]:
    """`amount` of the shares, the last used first, after `skipped` that was taken before."""
    found: list[GrantShare] = []
    for share in reversed(shares):
        over = min(skipped, share.credits)
        part = min(Credits(share.credits - over), amount)
        skipped, amount = Credits(skipped - over), Credits(amount - part)
        if part:
            found.append(GrantShare(share.grant_id, Credits(part)))
    assert not amount, "the shares of a charge are its sum"
    return tuple(found)


def _returned(
    account: Account, shares: Sequence[GrantShare], used_at: Instant
) -> tuple[tuple[Credits, ...], tuple[GrantShare, ...]]:
    """What is left of each grant then, and what had none to return to.

    A grant that began after the use is another one, of the same name.
    """
    remaining = list(account.remaining)
    places = {
        grant.grant_id: place for place, grant in enumerate(account.grants) if grant.effective_at <= used_at
    }
    lost: list[GrantShare] = []
    for share in shares:
        if share.grant_id == OVERAGE:
            continue
        place = places.get(share.grant_id)
        if place is None or remaining[place] + share.credits > account.grants[place].credits:
            lost.append(share)
        else:
            remaining[place] = Credits(remaining[place] + share.credits)
    return tuple(remaining), tuple(lost)


def _not_used_up(account: Account, shares: Sequence[GrantShare]) -> Account:
    """Something is left of these grants again: they wait anew to leave when that is used."""
    if not account.used_up:
        return account
    filled = {share.grant_id for share in shares}
    return account._replace(used_up=tuple([each for each in account.used_up if each.grant_id not in filled]))


def _not_owed(account: Account, usage: PastUsage, overage: Credits) -> Account:
    """Whose overage it was: of this period, which owes less now, or of a closed one, whose statement has billed it."""
    place = next((n for n, each in enumerate(account.billed) if usage.entry_seq <= each.last_entry_seq), None)
    if place is None:
        return account
    period, totals = account.billed[place], account.totals
    period = period._replace(returned=Credits(period.returned + overage))
    totals = totals._replace(
        overage=Credits(totals.overage + overage), overage_returned=Credits(totals.overage_returned + overage)
    )
    billed = (*account.billed[:place], period, *account.billed[place + 1 :])
    return account._replace(billed=billed, totals=totals)


def _remember(account: Account, usage: PastUsage, total: Credits) -> Account:
    others = tuple(each for each in account.reversals if each.offset != usage.offset)
    return account._replace(reversals=(*others, Reversed(usage.offset, usage.accepted_at, total)))
