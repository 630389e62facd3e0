"""What becomes of an account command: identity and window as for usage, then it is obeyed or refused."""

from typing import assert_never

from pipeline import emit
from pipeline.correction_rules import correct
from pipeline.domain.account import Account
from pipeline.domain.account_commands import obey
from pipeline.domain.answers import Captured, Obeyed, Refused
from pipeline.domain.commands import (
    CaptureHold,
    Command,
    PlaceHold,
    ReadmitUsage,
    ReleaseHold,
    RerateUsage,
    ReverseUsage,
)
from pipeline.domain.credits import NO_CREDITS
from pipeline.domain.hold_commands import Surroundings
from pipeline.domain.instants import Instant
from pipeline.domain.ledger import Cause
from pipeline.domain.reasons import ACCEPTED_CODE, METERED_CODE, REASON_CODES, REASON_OF_CODE, Reason
from pipeline.domain.usage import UsageEvent, identity_of
from pipeline.emit import Place
from pipeline.state import FirstAnswer
from pipeline.validate import LogRecord
from pipeline.work import Work, hold_identity


def answer_command(work: Work, record: LogRecord, command: Command, place: Place) -> None:
    key = command.account_id.encode()
    account = work.account_now(key, place)
    identity = identity_of(key, command.source, command.command_id)
    first = work.first_answer(identity, place)
    if first is not None:
        _answer_again(work, record, command, first, account, place)
        return
    late = work.outside_window(command.occurred_at, place.accepted_at)
    if late is not None:
        work.dead_letter_of(record, command, *late, "/time", place)
        return
    if isinstance(command.body, ReadmitUsage | ReverseUsage | RerateUsage):
        answer = correct(work, command, command.body, account, place)
    else:
        answer = obey(command, account, _surroundings(work, command, key, place))
    amount = NO_CREDITS
    match answer:
        case Obeyed(account, booked, hold, captured):
            work.book(booked, key, place)
            work.keep(key, account, place)
            code = ACCEPTED_CODE
            amount = NO_CREDITS if hold is None else hold.credits
            if captured is not None:
                _meter_captured(work, key, captured, account, place)
        case Refused(reason, _, required):
            code = REASON_CODES[reason]
            if required is not None and account is not None:
                work.denied(key, account, reason, place)
        case _:
            assert_never(answer)
    work.remember(identity, command.fingerprint, code, amount, place)
    work.records.append(emit.command_result(command, answer, account, place))


def _answer_again(
    work: Work, record: LogRecord, command: Command, first: FirstAnswer, account: Account | None, place: Place
) -> None:
    if first.fingerprint != command.fingerprint:
        detail = (
            f"expected the content of the command at offset {first.offset}, which has the same source and id"
        )
        work.dead_letter_of(record, command, Reason.CONFLICT, detail, "/id", place)
        return
    work.records.append(emit.command_repeated(command, first, account, place))


def _surroundings(work: Work, command: Command, key: bytes, place: Place) -> Surroundings:
    """What the command is judged by; of holds also what the index knows of them and of their usage."""
    at, body = place.accepted_at, command.body
    hold_end, usage_fault = None, None
    if isinstance(body, PlaceHold | CaptureHold | ReleaseHold):
        ended = work.first_answer(hold_identity(key, body.hold_id), place)
        hold_end = None if ended is None else REASON_OF_CODE[ended.code]
    if isinstance(body, CaptureHold):
        usage_fault = _usage_fault(work, key, body.usage, place)
    return Surroundings(
        plans=work.plans_at(at),
        books=work.books,
        at=Instant(at),
        prepaid_months=work.core.rules.prepaid_months,
        cause=Cause(command.source, command.command_id, place.partition, place.offset),
        hold_end=hold_end,
        usage_fault=usage_fault,
    )


def _usage_fault(work: Work, key: bytes, usage: UsageEvent, place: Place) -> Refused | None:
    """Captured usage goes through the same deduplication and the same window as any other."""
    first = work.first_answer(identity_of(key, usage.source, usage.event_id), place)
    if first is not None:
        return Refused(Reason.USAGE_ANSWERED, f"this usage event was answered at offset {first.offset}")
    late = work.outside_window(usage.occurred_at, place.accepted_at)
    return None if late is None else Refused(*late)


def _meter_captured(work: Work, key: bytes, captured: Captured, account: Account, place: Place) -> None:
    event, rated = captured.event, captured.rated
    work.records.append(emit.metered(event, rated, captured.entry, account.posted, place))
    identity = identity_of(key, event.source, event.event_id)
    work.remember(identity, event.fingerprint, METERED_CODE, rated.credits, place)
