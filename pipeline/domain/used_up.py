"""When grants that are used up leave their account, so that its state stays small.

A used-up grant stays for as long as a charge that it paid can be taken back: so a reversal finds it, and nothing is
lost by its leaving. It is looked at when a period begins and when a grant is asked for, never while an open hold
remembers it. An account that has no place for a further grant lets the one go that has been used up for longest, even
before its time: what a reversal returns to it later has expired, and the answer says so.
"""

from collections.abc import Collection
from typing import Final

from pipeline.domain.account import REVERSAL_DAYS_MAX, Account, UsedUp, boundary_of
from pipeline.domain.grants import GRANTS_MAX, GrantId
from pipeline.domain.instants import DAY_MS, Instant

USED_UP_KEPT_MS: Final = REVERSAL_DAYS_MAX * DAY_MS
"""From when it was first seen used up: no charge that it paid is younger."""


def tidied(account: Account, at: Instant) -> Account:
    """Let go what has been used up for longer than a charge can be taken back, and note what is used up now."""
    if all(account.remaining) and not account.used_up:
        return account
    held = {share.grant_id for hold in account.holds for share in hold.shares}
    known = dict(account.used_up)
    used_up = [
        UsedUp(grant.grant_id, known.get(grant.grant_id, at))
        for grant, left in zip(account.grants, account.remaining, strict=True)
        if not left and grant.grant_id not in held
    ]
    account = account._replace(used_up=tuple(used_up))
    return _without(account, {each.grant_id for each in used_up if each.since < at - USED_UP_KEPT_MS})


def with_place(account: Account, at: Instant) -> Account | None:
    """The account, tidied, with a place for one more grant; None if all that it has are needed.

    An order that is not answered yet keeps its place.
    """
    account = tidied(account, at)
    while _places(account) >= GRANTS_MAX:
        longest = min(account.used_up, key=lambda each: each.since, default=None)
        if longest is None:
            return None
        account = _without(account, {longest.grant_id})
    return account


def _places(account: Account) -> int:
    return len(account.grants) + len(account.pending) + bool(account.topup.open_order)


def _without(account: Account, gone: Collection[GrantId]) -> Account:
    """Nothing is left of them, so nothing is posted."""
    if not gone:
        return account
    kept = [
        (grant, left)
        for grant, left in zip(account.grants, account.remaining, strict=True)
        if grant.grant_id not in gone
    ]
    grants = tuple([grant for grant, _ in kept])
    boundary = boundary_of(
        account.subscription, grants, account.pending, account.holds, closed=account.closed
    )
    return account._replace(
        grants=grants,
        remaining=tuple([left for _, left in kept]),
        used_up=tuple([each for each in account.used_up if each.grant_id not in gone]),
        next_boundary=boundary,
    )
