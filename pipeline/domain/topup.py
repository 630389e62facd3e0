"""Automatic top-up: below a threshold a pack is bought, once for each crossing, under a cap (product.md section 3).

The core only decides: an order is said, a payment process asks the provider, and its answer comes back as a command.
Until then the order stays open and no other is made, however long that takes and however often anything crashes.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pipeline.domain.account import Account
from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.instants import HOUR_MS, Instant
from pipeline.domain.plans import Pack, Plan
from pipeline.domain.usage import AccountId
from pipeline.domain.used_up import with_place

BACK_OFF_FIRST_MS: Final = HOUR_MS
"""After a decline; it doubles with each one that follows."""
BACK_OFF_MS_MAX: Final = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class TopupOrder:
    """A pack that is to be bought: the same in every replay."""

    account_id: AccountId
    number: int
    """1, 2, 3, … in each account."""
    pack_id: str
    credits: Credits
    price: Decimal
    currency: str
    threshold: Credits
    left: Credits
    """What was left when it fell below the threshold."""
    ordered_at: Instant


def considered(account: Account, plan: Plan, at: Instant) -> tuple[Account, TopupOrder | None]:
    """After the account has changed: an order if it has just fallen below its threshold, and may buy.

    No order is made for whose credits there is no place (`used_up.with_place`). After a decline the account wakes up
    when the back-off is over, if that is what it waits for.
    """
    chosen, state = account.policy.topup, account.topup
    if chosen is None or account.closed:
        return account, None
    left = Credits(account.posted - account.held)
    if left >= chosen.threshold:
        return (account if state.armed else account._replace(topup=state._replace(armed=True))), None
    if not state.armed or state.open_order:
        return account, None
    if at < state.not_before:
        return account._replace(next_boundary=min(account.next_boundary, state.not_before)), None
    pack = plan.packs.get(chosen.pack_id)
    if pack is None or state.bought + pack.credits > chosen.credits_max:
        return account, None
    roomy = with_place(account, at)
    return (account, None) if roomy is None else _ordered(roomy, plan, pack, left, at)


def _ordered(
    account: Account, plan: Plan, pack: Pack, left: Credits, at: Instant
) -> tuple[Account, TopupOrder]:
    chosen, state = account.policy.topup, account.topup
    assert chosen is not None, "who buys has chosen what"
    number = state.orders + 1
    state = state._replace(orders=number, open_order=number, open_credits=pack.credits, armed=False)
    order = TopupOrder(
        account_id=account.account_id,
        number=number,
        pack_id=pack.pack_id,
        credits=pack.credits,
        price=pack.price,
        currency=plan.currency,
        threshold=chosen.threshold,
        left=left,
        ordered_at=at,
    )
    return account._replace(topup=state), order


def succeeded(account: Account) -> Account:
    """The open order was paid; the caller gives its credits."""
    state = account.topup
    return account._replace(
        topup=state._replace(
            open_order=0,
            open_credits=NO_CREDITS,
            bought=Credits(state.bought + state.open_credits),
            declines=0,
            not_before=Instant(0),
        )
    )


def declined(account: Account, at: Instant) -> Account:
    """The open order was not paid: the next may follow after a while, for the same crossing."""
    state = account.topup
    wait_ms = min(BACK_OFF_FIRST_MS << min(state.declines, 16), BACK_OFF_MS_MAX)
    return account._replace(
        topup=state._replace(
            open_order=0,
            open_credits=NO_CREDITS,
            armed=True,
            declines=state.declines + 1,
            not_before=Instant(at + wait_ms),
        )
    )
