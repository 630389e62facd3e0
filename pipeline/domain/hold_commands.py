"""Carrying out hold, capture and release: N concurrent holds of c on a balance B admit exactly ⌊B/c⌋."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.domain.account import Account, Hold, available
from pipeline.domain.alerts import after_use
from pipeline.domain.answers import Captured, HoldState, Obeyed, Refused
from pipeline.domain.commands import CaptureHold, PlaceHold, ReleaseHold
from pipeline.domain.credits import NO_CREDITS, Credits, format_credits
from pipeline.domain.holds import HOLD_SHARES_MAX, HOLDS_MAX, place, settle
from pipeline.domain.instants import SECOND_MS, Instant
from pipeline.domain.ledger import Cause, denial
from pipeline.domain.plans import Plan
from pipeline.domain.price_book import PriceBook, book_in_force
from pipeline.domain.rating import Unrated, rate
from pipeline.domain.reasons import Reason
from pipeline.domain.subscriptions import Booked, EndedHold, release


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a command on an account is judged by beside the account itself."""

    plans: Mapping[str, Plan]
    books: Sequence[PriceBook]
    at: Instant
    cause: Cause
    prepaid_months: int
    """See `Rules`."""
    hold_end: Reason | None = None
    """How the hold that the command names ended, if the index still knows."""
    usage_fault: Refused | None = None
    """Why the usage that a capture names cannot be charged: answered before, or outside the window."""


def place_hold(account: Account, body: PlaceHold, around: Surroundings) -> Obeyed | Refused:
    """Set credits aside, or refuse with what is missing. The price is locked to the book in force."""
    if around.hold_end is not None or _open_hold(account, body.hold_id) is not None:
        return Refused(Reason.HOLD_EXISTS, f"hold {body.hold_id!r} was placed before")
    if len(account.holds) >= HOLDS_MAX:
        return Refused(Reason.TOO_MANY_HOLDS, f"expected at most {HOLDS_MAX} open holds")
    book = book_in_force(around.books, around.at)
    wanted = _wanted(account, body, book)
    if isinstance(wanted, Refused):
        return wanted
    amount, images = wanted
    plan = around.plans[account.subscription.plan_id]
    reason = denial(account, amount, plan)
    if reason is not None:
        detail = (
            f"requires {format_credits(amount)} credits, {format_credits(available(account))} are available"
        )
        return Refused(reason, detail, required=amount)
    expires_at = Instant(around.at + body.seconds * SECOND_MS)
    account = place(account, body.hold_id, amount, book.version, expires_at)
    if sum([len(each.shares) for each in account.holds]) > HOLD_SHARES_MAX:
        return Refused(
            Reason.TOO_MANY_HOLDS, f"expected open holds on at most {HOLD_SHARES_MAX} shares of grants"
        )
    return Obeyed(account, Booked(), hold=HoldState(body.hold_id, amount, images, expires_at))


def _wanted(account: Account, body: PlaceHold, book: PriceBook) -> tuple[Credits, int] | Refused:
    """Credits and images to hold; with `partial`, as many images as fit, but at least one."""
    if body.credits is not None:
        return body.credits, 0
    assert body.usage is not None, "validation lets no hold through with neither"
    rated = rate(body.usage, book)
    if isinstance(rated, Unrated):
        return Refused(Reason.UNPRICED, rated.detail)
    images = body.usage.images
    if body.partial and rated.image.credits:
        images = max(1, min(images, available(account) // rated.image.credits))
    return Credits(rated.image.credits * images), images


def capture_hold(account: Account, body: CaptureHold, around: Surroundings) -> Obeyed | Refused:
    """Charge what was really done, at the hold's price and at most what it holds; give back the rest."""
    hold = _open_hold(account, body.hold_id)
    if hold is None:
        return _no_hold(body.hold_id, around)
    if around.usage_fault is not None:
        return around.usage_fault
    book = next((each for each in around.books if each.version == hold.price_book), None)
    assert book is not None, f"the schedule never loses a book, and {hold.price_book!r} was in it"
    rated = rate(body.usage, book)
    if isinstance(rated, Unrated):
        return Refused(Reason.UNPRICED, rated.detail)
    if rated.credits > hold.credits:
        detail = f"costs {format_credits(rated.credits)} credits, the hold has {format_credits(hold.credits)}"
        return Refused(Reason.EXCEEDS_HOLD, detail, required=rated.credits)
    usage = body.usage
    cause = Cause(usage.source, usage.event_id, around.cause.partition, around.cause.offset)
    settled = settle(account, hold, rated.credits, cause, around.at)
    booked = Booked(settled.entries)
    booked.ended_holds.append(EndedHold(hold.hold_id, Reason.HOLD_CAPTURED, rated.credits, around.at))
    account, alert = after_use(settled.account, around.plans[account.subscription.plan_id])
    booked.alerts += [] if alert is None else [alert]
    entry = settled.charged[-1] if settled.charged else None
    return Obeyed(
        account,
        booked,
        hold=HoldState(hold.hold_id, rated.credits, usage.images, hold.expires_at),
        captured=Captured(usage, rated, entry),
    )


def release_hold(account: Account, body: ReleaseHold, around: Surroundings) -> Obeyed | Refused:
    """Give everything back to where it came from."""
    hold = _open_hold(account, body.hold_id)
    if hold is None:
        return _no_hold(body.hold_id, around)
    booked = Booked()
    account = release(account, hold, Reason.HOLD_RELEASED, around.cause, around.at, booked)
    return Obeyed(account, booked, hold=HoldState(hold.hold_id, NO_CREDITS, 0, hold.expires_at))


def _open_hold(account: Account, hold_id: str) -> Hold | None:
    return next((each for each in account.holds if each.hold_id == hold_id), None)


def _no_hold(hold_id: str, around: Surroundings) -> Refused:
    if around.hold_end is None:
        return Refused(Reason.UNKNOWN_HOLD, f"expected an open hold, got {hold_id!r}")
    return Refused(around.hold_end, f"hold {hold_id!r} has ended before")
