"""Metered records: charged, denied or seen before, with the receipt."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from pipeline.domain.account import Account
from pipeline.domain.credits import NO_CREDITS, Credits, format_credits
from pipeline.domain.grants import OVERAGE, GrantShare
from pipeline.domain.instants import format_instant
from pipeline.domain.ledger import LedgerEntry
from pipeline.domain.rating import RatedImage, RatedUsage
from pipeline.domain.reasons import Reason
from pipeline.domain.reversals import PastUsage
from pipeline.domain.usage import UsageEvent
from pipeline.emit.records import OutRecord, Place, written_shares, written_shortage
from pipeline.state import FirstAnswer
from schemas.topics import METERED_RECORDS


def metered(
    event: UsageEvent, rated: RatedUsage, entry: LedgerEntry | None, balance: int, place: Place
) -> OutRecord:
    """A charge with its receipt. Without an entry the book's explicit price was 0."""
    shares = () if entry is None else entry.shares
    charged = rated.credits
    before = balance + charged
    if shares and shares[-1].grant_id == OVERAGE:  # Was never in the balance, but for the entry before.
        before -= shares[-1].credits
    receipt = _receipt(event, rated, shares, before=before, after=balance)
    seq = 0 if entry is None else entry.entry_seq
    return _metered_record(event, place, "metered", "", charged, rated, balance, seq, place.offset, receipt)


def denied(event: UsageEvent, rated: RatedUsage, reason: Reason, account: Account, place: Place) -> OutRecord:
    """Usage that the policy blocks: recorded at 0 credits with what it would have cost, never lost."""
    balance = account.posted
    receipt = _receipt(event, rated, (), before=balance, after=balance)
    if not account.closed:
        receipt["shortage"] = written_shortage(account, rated.credits)
    return _metered_record(event, place, "denied", reason, 0, rated, balance, 0, place.offset, receipt)


def duplicate(event: UsageEvent, first: FirstAnswer, reason: str, balance: int, place: Place) -> OutRecord:
    """A resend: charged never, answered with the first answer. `reason` is the first one's, if it was denied."""
    return _metered_record(
        event,
        place,
        "duplicate",
        reason or Reason.DUPLICATE,
        0,
        first.credits,
        balance,
        0,
        first.offset,
        None,
    )


def reversed_usage(
    usage: PastUsage, amount: Credits, entry: LedgerEntry, balance: int, place: Place
) -> OutRecord:
    """A charge that was taken back, in whole or in part: as many credits below zero, and no images."""
    event = usage.event._replace(images=0)
    return _metered_record(
        event, place, "reversed", "", -amount, NO_CREDITS, balance, entry.entry_seq, usage.offset, None
    )


def rerated_usage(
    usage: PastUsage, rated: RatedUsage, entry: LedgerEntry | None, balance: int, place: Place
) -> OutRecord:
    """A charge that was taken back and made anew by another book: the difference, with the receipt of the new one."""
    shares = () if entry is None else entry.shares
    before = balance + rated.credits
    if shares and shares[-1].grant_id == OVERAGE:
        before -= shares[-1].credits
    receipt = _receipt(usage.event, rated, shares, before=before, after=balance)
    seq = 0 if entry is None else entry.entry_seq
    difference = rated.credits - usage.charged
    event = usage.event._replace(images=0)
    return _metered_record(
        event, place, "rerated", "", difference, rated, balance, seq, usage.offset, receipt
    )


def _metered_record(  # noqa: PLR0913, PLR0917  (the record's own fields; keywords would cost a microsecond)
    event: UsageEvent,
    place: Place,
    outcome: str,
    reason: str,
    charged: int,
    rated: RatedUsage | int,
    balance: int,
    entry_seq: int,
    first_offset: int,
    receipt: dict[str, Any] | None,
) -> OutRecord:
    cost, book = (rated, "") if isinstance(rated, int) else (rated.credits, rated.price_book.version)
    value = orjson.dumps(
        {
            "account_id": event.account_id,
            "event_id": event.event_id,
            "source": event.source,
            "service": event.service,
            "outcome": outcome,
            "reason": reason,
            "occurred_at": format_instant(event.occurred_at),
            "accepted_at": place.accepted_text,
            "channel": event.channel,
            "images": event.images,
            "credits": format_credits(charged),
            "rated_credits": format_credits(cost),
            "price_book": book,
            "balance_after": format_credits(balance),
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "entry_seq": entry_seq,
            "first_offset": first_offset,
            "receipt": receipt,
            "attributes": event.attributes,
        }
    )
    return OutRecord(METERED_RECORDS, event.account_id.encode(), value, place.accepted_at)


def _receipt(
    event: UsageEvent, rated: RatedUsage, shares: Sequence[GrantShare], *, before: int, after: int
) -> dict[str, Any]:
    return {
        "inputs": event.inputs,
        "steps": _steps(rated.image),
        "credits_per_image": format_credits(rated.image.credits),
        "images": event.images,
        "grants": written_shares(shares),
        "balance_before": format_credits(before),
        "balance_after": format_credits(after),
    }


@lru_cache(maxsize=16_384)  # As many as rating remembers; the steps of one price are always the same bytes.
def _steps(image: RatedImage) -> orjson.Fragment:
    steps = [
        {
            "rule": step.rule,
            "detail": step.detail,
            "credits_per_image": format_credits(step.credits_per_image),
        }
        for step in image.steps
    ]
    return orjson.Fragment(orjson.dumps(steps))
