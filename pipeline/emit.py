"""Outcomes to records: the key and the bytes of everything the core says. Shapes: the models in `schemas/`.

Top-level names of metered records, ledger entries, balances and dead letters are ClickHouse's columns: the sink
passes these bytes through. Encoded once, by hand, because this is most of what an event costs.
"""

from base64 import b64encode
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple, assert_never

import orjson

from pipeline.domain.account import LIMIT_REACHED, Account, Hold, available
from pipeline.domain.alerts import Alert
from pipeline.domain.answers import Answer, HoldState, Obeyed, PlanChange, Refused
from pipeline.domain.commands import CaptureHold, Command, PlaceHold, ReleaseHold
from pipeline.domain.credits import NO_CREDITS, Credits, format_credits
from pipeline.domain.grants import Grant, GrantShare
from pipeline.domain.instants import format_instant
from pipeline.domain.ledger import LedgerEntry
from pipeline.domain.rating import RatedImage, RatedUsage
from pipeline.domain.reasons import REASON_OF_CODE, Reason
from pipeline.domain.subscriptions import Statement
from pipeline.domain.usage import UsageEvent
from pipeline.state import FirstAnswer
from pipeline.validate import Invalid, LogRecord
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
)


class OutRecord(NamedTuple):
    """A record to produce, to the partition of the same number. `topic` is without a deployment's prefix."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    """The partition's clock when the outcome was decided."""


class Place(NamedTuple):
    """Where and when an outcome was decided."""

    partition: int
    offset: int
    partition_seq: int
    accepted_at: int
    accepted_text: str
    """The same in RFC 3339: it stands in every record."""


def metered(
    event: UsageEvent, rated: RatedUsage, entry: LedgerEntry | None, balance: int, place: Place
) -> OutRecord:
    """A charge with its receipt. Without an entry the book's explicit price was 0."""
    shares = () if entry is None else entry.shares
    charged = rated.credits
    receipt = _receipt(event, rated, shares, before=balance + charged, after=balance)
    seq = 0 if entry is None else entry.entry_seq
    return _metered_record(event, place, "metered", "", charged, rated, balance, seq, place.offset, receipt)


def denied(event: UsageEvent, rated: RatedUsage, reason: Reason, balance: int, place: Place) -> OutRecord:
    """Usage that the policy blocks: recorded at 0 credits with what it would have cost, never lost."""
    receipt = _receipt(event, rated, (), before=balance, after=balance)
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
        "grants": _shares(shares),
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


def _shares(shares: Sequence[GrantShare]) -> list[dict[str, str]]:
    return [{"grant_id": share.grant_id, "credits": format_credits(share.credits)} for share in shares]


def ledger_entry(entry: LedgerEntry, place: Place) -> OutRecord:
    """One entry of the account's ledger."""
    at = place.accepted_at
    value = orjson.dumps(
        {
            "account_id": entry.account_id,
            "entry_seq": entry.entry_seq,
            "kind": entry.kind,
            "credits": format_credits(entry.credits),
            "balance_after": format_credits(entry.balance_after),
            "booked_at": place.accepted_text if entry.booked_at == at else format_instant(entry.booked_at),
            "accepted_at": place.accepted_text,
            "cause_source": entry.cause.source,
            "cause_id": entry.cause.cause_id,
            "grants": _shares(entry.shares),
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "previous_hash": entry.previous_hash,
            "entry_hash": entry.entry_hash,
        }
    )
    return OutRecord(LEDGER_ENTRIES, entry.account_id.encode(), value, place.accepted_at)


def account_balance(account: Account, place: Place) -> OutRecord:
    """The account's newest balance, once a batch."""
    grants = [
        _grant_balance(grant, left) for grant, left in zip(account.grants, account.remaining, strict=True)
    ] + [_grant_balance(grant, NO_CREDITS) for grant in account.pending]
    subscription = account.subscription
    posted, ceiling = format_credits(account.posted), account.policy.overage_ceiling
    value = orjson.dumps(
        {
            "account_id": account.account_id,
            "plan": subscription.plan_id,
            "next_plan": subscription.next_plan_id,
            "status": "closed" if account.closed else "open",
            "posted": posted,
            "held": format_credits(account.held),
            "available": format_credits(available(account)),
            "overage_ceiling": None if ceiling is None else format_credits(ceiling),
            "overage": format_credits(account.totals.overage),
            "alert_thresholds": account.policy.thresholds,
            "holds": [_open_hold(hold) for hold in account.holds],
            "grants": grants,
            "period_used": format_credits(account.totals.used),
            "period_start": format_instant(subscription.period_start),
            "period_end": format_instant(subscription.period_end),
            "entry_seq": account.entry_seq,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_BALANCES, account.account_id.encode(), value, place.accepted_at)


def _open_hold(hold: Hold) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "credits": format_credits(hold.credits),
        "expires_at": format_instant(hold.expires_at),
    }


def account_statement(statement: Statement, place: Place) -> OutRecord:
    """The statement of a closed period. Overage in money is exact: credits × price, rounded by whoever pays it."""
    totals, price = statement.totals, statement.overage_price
    value = orjson.dumps(
        {
            "account_id": statement.account_id,
            "plan": statement.plan_id,
            "period_start": format_instant(statement.period_start),
            "period_end": format_instant(statement.period_end),
            "opening": format_credits(totals.opening),
            "granted": format_credits(totals.granted),
            "used": format_credits(totals.used),
            "expired": format_credits(totals.expired),
            "voided": format_credits(totals.voided),
            "overage": format_credits(totals.overage),
            "overage_price": None if price is None else format(price, "f"),
            "overage_amount": format_money(totals.overage, price),
            "currency": statement.currency,
            "closing": format_credits(statement.closing),
            "last_entry_seq": statement.last_entry_seq,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_STATEMENTS, statement.account_id.encode(), value, place.accepted_at)


def format_money(amount: Credits, price: Decimal | None) -> str:
    """Credits in money, exact, without trailing zeros; "0" where nothing is owed."""
    if price is None or not amount:
        return "0"
    return format((Decimal(amount).scaleb(-6) * price).normalize(), "f")


def account_alert(alert: Alert, place: Place) -> OutRecord:
    """An alert for the notifier. Its id is the same in every replay."""
    period = format_instant(alert.period_start)
    limit_reached = alert.threshold == LIMIT_REACHED
    value = orjson.dumps(
        {
            "alert_id": f"{alert.account_id}:{period}:{alert.threshold or 'limit'}:{alert.entry_seq}",
            "account_id": alert.account_id,
            "kind": "limit_reached" if limit_reached else "threshold",
            "threshold": None if limit_reached else alert.threshold,
            "used": format_credits(alert.used),
            "base": format_credits(alert.base),
            "period_start": period,
            "period_end": format_instant(alert.period_end),
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_ALERTS, alert.account_id.encode(), value, place.accepted_at)


def _grant_balance(grant: Grant, left: Credits) -> dict[str, Any]:
    return {
        "grant_id": grant.grant_id,
        "kind": grant.kind,
        "priority": grant.priority,
        "credits": format_credits(grant.credits),
        "remaining": format_credits(left),
        "effective_at": format_instant(grant.effective_at),
        "expires_at": None if grant.expires_at is None else format_instant(grant.expires_at),
    }


def command_result(command: Command, answer: Answer, account: Account | None, place: Place) -> OutRecord:
    """The answer to a command. Where credits were missing it says how many, and when there will be more."""
    match answer:
        case Obeyed(hold=hold, plan_change=change):
            outcome, reason, detail, shortage = "accepted", "", "", None
        case Refused(reason, detail, required):
            outcome, hold, change = "refused", None, None
            shortage = None if required is None or account is None else _shortage(account, required)
        case _:
            assert_never(answer)
    told = {
        "hold": None if hold is None else _hold_state(hold),
        "plan_change": None if change is None else _plan_change(change),
        "shortage": shortage,
    }
    return _command_record(
        command, (outcome, outcome, reason, detail), told, account, place, first_offset=place.offset
    )


def command_repeated(
    command: Command, first: FirstAnswer, account: Account | None, place: Place
) -> OutRecord:
    """The first answer again: outcome, reason, and of a hold or capture the credits."""
    reason = REASON_OF_CODE.get(first.code)
    hold = None
    if reason is None and isinstance(command.body, PlaceHold | CaptureHold | ReleaseHold):
        hold = {
            "hold_id": command.body.hold_id,
            "credits": format_credits(first.credits),
            "images": None,
            "expires_at": None,
        }
    outcome = ("duplicate", "accepted" if reason is None else "refused", reason or "", "")
    told = {"hold": hold, "plan_change": None, "shortage": None}
    return _command_record(command, outcome, told, account, place, first_offset=first.offset)


def _command_record(
    command: Command,
    outcome: tuple[str, str, str, str],
    told: dict[str, Any],
    account: Account | None,
    place: Place,
    *,
    first_offset: int,
) -> OutRecord:
    said, first_outcome, reason, detail = outcome
    posted, usable = (NO_CREDITS, NO_CREDITS) if account is None else (account.posted, available(account))
    value = orjson.dumps(
        {
            "account_id": command.account_id,
            "command_id": command.command_id,
            "source": command.source,
            "type": command.type,
            "outcome": said,
            "first_outcome": first_outcome,
            "reason": reason,
            "detail": detail,
            **told,
            "balance_after": format_credits(posted),
            "available_after": format_credits(usable),
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "first_offset": first_offset,
        }
    )
    return OutRecord(COMMAND_RESULTS, command.account_id.encode(), value, place.accepted_at)


def _hold_state(hold: HoldState) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "credits": format_credits(hold.credits),
        "images": hold.images,
        "expires_at": format_instant(hold.expires_at),
    }


def _plan_change(change: PlanChange) -> dict[str, str]:
    return {"plan": change.plan_id, "effective_at": format_instant(change.effective_at)}


def _shortage(account: Account, required: Credits) -> dict[str, str]:
    return {
        "required": format_credits(required),
        "available": format_credits(available(account)),
        "resets_at": format_instant(account.subscription.period_end),
    }


KEY_SHOWN_BYTES_MAX: Final = 128


def dead_letter(record: LogRecord, invalid: Invalid, place: Place) -> OutRecord:
    """An event that can never be metered, whole, with its reason."""
    key = record.key or b""
    account_id = key.decode("ascii", "replace") if len(key) <= KEY_SHOWN_BYTES_MAX else ""
    value = orjson.dumps(
        {
            "reason": invalid.reason,
            "detail": invalid.detail,
            "pointer": invalid.pointer,
            "account_id": account_id
            if account_id.isprintable() and "\N{REPLACEMENT CHARACTER}" not in account_id
            else "",
            "event_id": invalid.event_id,
            "source": invalid.source,
            "type": invalid.type,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "key_base64": b64encode(key).decode(),
            "payload_base64": b64encode(record.value or b"").decode(),
            "headers": [
                {"name": name, "value_base64": b64encode(value or b"").decode()}
                for name, value in record.headers
            ],
        }
    )
    return OutRecord(DEAD_LETTERS, key, value, place.accepted_at)
