"""The answers to account commands."""

from typing import Any, Final, assert_never

import orjson

from pipeline.domain.account import Account, available
from pipeline.domain.answers import Answer, HoldState, Obeyed, PlanChange, Refused, Reversal, TopupAnswered
from pipeline.domain.commands import CaptureHold, Command, PlaceHold, Publication, ReleaseHold
from pipeline.domain.credits import NO_CREDITS, format_credits
from pipeline.domain.instants import format_instant
from pipeline.domain.reasons import REASON_OF_CODE
from pipeline.emit.records import OutRecord, Place, written_shortage
from pipeline.state import FirstAnswer
from schemas.publication import SCHEDULE_SUBJECT
from schemas.topics import COMMAND_RESULTS


def command_result(command: Command, answer: Answer, account: Account | None, place: Place) -> OutRecord:
    """The answer to a command. Where credits were missing it says how many, and when there will be more."""
    match answer:
        case Obeyed(hold=hold, plan_change=change, reversal=reversal, topup=topup):
            outcome, reason, detail, shortage = "accepted", "", "", None
        case Refused(reason, detail, required):
            outcome, hold, change, reversal, topup = "refused", None, None, None, None
            shortage = None if required is None or account is None else written_shortage(account, required)
        case _:
            assert_never(answer)
    told = {
        **_NOTHING_TOLD,
        "hold": None if hold is None else _hold_state(hold),
        "plan_change": None if change is None else _plan_change(change),
        "reversal": None if reversal is None else _reversal(reversal),
        "shortage": shortage,
        "topup": None if topup is None else _topup(topup),
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
    return _command_record(
        command, outcome, {**_NOTHING_TOLD, "hold": hold}, account, place, first_offset=first.offset
    )


def publication_result(publication: Publication, refused: Refused | None, place: Place) -> OutRecord:
    """The answer of one partition to a price book or plan catalogue."""
    said = (
        ("accepted", "accepted", "", "")
        if refused is None
        else ("refused", "refused", refused.reason, refused.detail)
    )
    return _publication_record(publication, said, place, first_offset=place.offset)


def publication_repeated(publication: Publication, reason: str, first_offset: int, place: Place) -> OutRecord:
    """The first answer again: to a resend, or to content that was published before."""
    said = ("duplicate", "refused" if reason else "accepted", reason, "")
    return _publication_record(publication, said, place, first_offset=first_offset)


def _publication_record(
    publication: Publication, outcome: tuple[str, str, str, str], place: Place, *, first_offset: int
) -> OutRecord:
    version = publication.published
    told = {
        "version": version.version,
        "sha256": version.sha256,
        "effective_from": format_instant(version.effective_from),
    }
    return _command_record(
        publication, outcome, {**_NOTHING_TOLD, "publication": told}, None, place, first_offset=first_offset
    )


_NOTHING_TOLD: Final[dict[str, Any]] = {
    "hold": None,
    "plan_change": None,
    "publication": None,
    "reversal": None,
    "shortage": None,
    "topup": None,
}


def _command_record(
    command: Command | Publication,
    outcome: tuple[str, str, str, str],
    told: dict[str, Any],
    account: Account | None,
    place: Place,
    *,
    first_offset: int,
) -> OutRecord:
    said, first_outcome, reason, detail = outcome
    subject = SCHEDULE_SUBJECT if isinstance(command, Publication) else command.account_id
    posted, usable = (NO_CREDITS, NO_CREDITS) if account is None else (account.posted, available(account))
    value = orjson.dumps(
        {
            "account_id": subject,
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
    return OutRecord(COMMAND_RESULTS, subject.encode(), value, place.accepted_at)


def _hold_state(hold: HoldState) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "credits": format_credits(hold.credits),
        "images": hold.images,
        "expires_at": format_instant(hold.expires_at),
    }


def _reversal(reversal: Reversal) -> dict[str, Any]:
    recharged = reversal.recharged
    return {
        "event_offset": reversal.offset,
        "credits": format_credits(reversal.credits),
        "returned": format_credits(reversal.returned),
        "expired": format_credits(reversal.expired),
        "overage": format_credits(reversal.overage),
        "recharged": None if recharged is None else format_credits(recharged),
    }


def _topup(topup: TopupAnswered) -> dict[str, Any]:
    not_before = topup.not_before
    return {
        "order": topup.order,
        "result": "succeeded" if not_before is None else "declined",
        "not_before": None if not_before is None else format_instant(not_before),
    }


def _plan_change(change: PlanChange) -> dict[str, str]:
    return {"plan": change.plan_id, "effective_at": format_instant(change.effective_at)}
