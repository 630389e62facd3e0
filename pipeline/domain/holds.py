"""Holds: credits set aside before the work, charged for what was really done.

A hold remembers exactly which grants it took from, so that what is released goes back where it came from. It ends
once: by capture, by release, or by its expiry. What comes back to a grant that has ended meanwhile expires there and
then, by an entry of its own (product.md section 3; the receipt algorithm is Autumn's, anchors.md section 3C).
"""

from dataclasses import dataclass
from typing import Final

from pipeline.domain.account import Account, Hold, boundary_of
from pipeline.domain.credits import Credits
from pipeline.domain.grants import OVERAGE, GrantShare, burn_down
from pipeline.domain.instants import Instant
from pipeline.domain.ledger import Cause, LedgerEntry, charge, next_entry, posted

HOLDS_MAX: Final = 1000
"""Open holds of one account; bounds its state."""
HOLD_SHARES_MAX: Final = 2000
"""What they took, counted by grant. Each hold takes from one grant more than it empties, so that most accounts never
have more than their holds and grants together; reversals fill grants anew."""
HOLD_SECONDS_DEFAULT: Final = 900
HOLD_SECONDS_MAX: Final = 86_400


@dataclass(frozen=True, slots=True)
class Settled:
    """How a hold ended: the entries of what was charged, the last of them the usage, and of what was lost."""

    account: Account
    charged: list[LedgerEntry]
    lost: list[LedgerEntry]
    """What had no grant to go back to."""

    @property
    def entries(self) -> list[LedgerEntry]:
        return self.charged + self.lost


def place(account: Account, hold_id: str, amount: Credits, price_book: str, expires_at: Instant) -> Account:
    """Set `amount` aside. The caller has seen that it is available."""
    remaining, shares = burn_down(account.grants, account.remaining, amount)
    hold = Hold(hold_id, amount, shares, price_book, expires_at)
    return _with_holds(account, remaining, (*account.holds, hold))


def settle(account: Account, hold: Hold, charged: Credits, cause: Cause, at: Instant) -> Settled:
    """End a hold: charge `charged` from the front of what it took, give the rest back to the same grants."""
    assert charged <= hold.credits, (hold, charged)
    used, returned = _split(hold.shares, charged)
    held = tuple(each for each in account.holds if each is not hold)
    booked: list[LedgerEntry] = []
    if used:
        account, booked = charge(account, account.remaining, used, cause, at)
    remaining = list(account.remaining)
    places = {grant.grant_id: place for place, grant in enumerate(account.grants)}
    lost: list[GrantShare] = []
    for share in returned:
        place = places.get(share.grant_id)
        if share.grant_id == OVERAGE:
            continue  # Nothing was taken from anywhere.
        if place is None:
            lost.append(share)
        else:
            remaining[place] = Credits(remaining[place] + share.credits)
    account = _with_holds(account, tuple(remaining), held)
    if not lost:
        return Settled(account, booked, [])
    amount = Credits(-sum(share.credits for share in lost))
    entry = next_entry(
        account, "expiration", amount, tuple(lost), Cause("", hold.hold_id, cause.partition, cause.offset), at
    )
    return Settled(posted(account, entry, account.grants, account.remaining), booked, [entry])


def held_credits(holds: tuple[Hold, ...]) -> Credits:
    """What holds took from grants; overage that they set aside was taken from nowhere."""
    return Credits(
        sum([share.credits for hold in holds for share in hold.shares if share.grant_id != OVERAGE])
    )


def _split(
    shares: tuple[GrantShare, ...], charged: Credits
) -> tuple[tuple[GrantShare, ...], tuple[GrantShare, ...]]:
    """What of the shares is used, from the front, and what goes back."""
    used: list[GrantShare] = []
    back: list[GrantShare] = []
    due = charged
    for share in shares:
        part = min(share.credits, due)
        if part:
            used.append(GrantShare(share.grant_id, Credits(part)))
        if share.credits > part:
            back.append(GrantShare(share.grant_id, Credits(share.credits - part)))
        due = Credits(due - part)
    return tuple(used), tuple(back)


def _with_holds(account: Account, remaining: tuple[Credits, ...], holds: tuple[Hold, ...]) -> Account:
    held = held_credits(holds)
    boundary = boundary_of(
        account.subscription, account.grants, account.pending, holds, closed=account.closed
    )
    return account._replace(remaining=remaining, holds=holds, held=held, next_boundary=boundary)
