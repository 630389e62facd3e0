"""Signs a command, sends it, waits for its answer: what holds and operators' commands have in common.

The command's id is the caller's `Idempotency-Key` and its source the caller's key, so the same request again is the
same command: it is obeyed once and answered as it was the first time.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import Request

from pipeline.client.commands import signed, unsigned_command
from pipeline.client.events import encode
from pipeline.client.origin import new_id, now_text
from pipeline.client.outcomes import Outcome
from pipeline.client.publisher import Delivered
from pipeline.gateway.answers import OF_COMMANDS
from pipeline.gateway.keys import Holder
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import ProblemError
from pipeline.validate import Invalid, parse_event
from pipeline.validate_data import is_text
from schemas.http_api import CommandAnswer

IDEMPOTENCY_KEY_LENGTH_MAX: Final = 200


def command_id_of(request: Request) -> str:
    """The `Idempotency-Key`, or an id made up here: then a repeated request is another command."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return new_id()
    if len(given) != 1 or not is_text(given[0], IDEMPOTENCY_KEY_LENGTH_MAX) or not given[0].isascii():
        detail = f"expected one Idempotency-Key of 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} ASCII characters"
        raise ProblemError("invalid_parameter", detail)
    return given[0]


async def obey(
    parts: Parts, holder: Holder, name: str, account: str, data: Mapping[str, Any], command_id: str
) -> CommandAnswer:
    """The answer to an accepted command. A refusal, and whatever else went wrong, is raised as a problem."""
    _, value = _signed(parts, holder, name, account, data, command_id)
    return await send(parts, name, account, value, command_id)


async def send(parts: Parts, name: str, account: str, value: bytes, command_id: str) -> CommandAnswer:
    """As `obey`, of a command that is signed already."""
    key = account.encode()
    with parts.answers.expecting([key]):
        (report,) = await parts.log.publish([(key, value)])
        if not isinstance(report, Delivered):
            raise ProblemError(
                "kafka_unavailable", f"Kafka did not acknowledge: {report.detail}", retry_after=1
            )
        parts.views.wrote(account, report)
        found = await parts.answers.of({(report.partition, report.offset): key}, OF_COMMANDS)
    outcome = found.get((report.partition, report.offset))
    if outcome is None:
        parts.metrics.commands.labels(name, "outcome_pending").inc()
        raise ProblemError(
            "outcome_pending",
            "the command is in the log, no worker has answered it yet; ask again with the same Idempotency-Key",
            retry_after=1,
            command_id=command_id,
            partition=report.partition,
            offset=report.offset,
        )
    return _answer(parts, name, command_id, outcome)


def _signed(
    parts: Parts, holder: Holder, name: str, account: str, data: Mapping[str, Any], command_id: str
) -> tuple[bytes, bytes]:
    """Key and value, once the stream's own gate finds nothing wrong."""
    event = unsigned_command(
        name, account=account, command_id=command_id, source=holder.source, time=now_text(), data=data
    )
    try:
        event = signed(event, parts.signing)
    except orjson.JSONEncodeError as error:
        raise ProblemError("invalid_data", "expected fewer levels of objects and lists") from error
    parsed = parse_event(event, account.encode(), {parts.signing.key_id: parts.signing.secret})
    if isinstance(parsed, Invalid):
        raise ProblemError(parsed.reason, parsed.detail, pointer=parsed.pointer.removeprefix("/data"))
    key, value = encode(event)
    if len(value) > parts.settings.rules.event_bytes_max:
        raise ProblemError(
            "too_large", f"expected a command of at most {parts.settings.rules.event_bytes_max} bytes"
        )
    assert key is not None, "a command has a subject"
    return key, value


def _answer(parts: Parts, name: str, command_id: str, outcome: Outcome) -> CommandAnswer:
    record = outcome.record
    reason = str(record["reason"])
    parts.metrics.commands.labels(name, reason or "accepted").inc()
    if outcome.kind == "dead_letter":
        raise ProblemError(
            reason, record["detail"], pointer=record["pointer"].removeprefix("/data"), command_id=command_id
        )
    if record["first_outcome"] == "refused":
        raise refusal(
            reason,
            record["detail"] or "refused before, by the same Idempotency-Key",
            record["shortage"] or {},
            available=record["available_after"],
            account_id=record["account_id"],
            command_id=command_id,
            duplicate=record["outcome"] == "duplicate",
        )
    return CommandAnswer.model_validate_json(
        orjson.dumps(
            {
                **{each: record[each] for each in CommandAnswer.model_fields if each in record},
                "command_id": command_id,
            }
        )
    )


def refusal(
    reason: str, detail: str, shortage: Mapping[str, Any], *, available: str | None, **members: Any
) -> ProblemError:
    """The problem of a refusal; of one for want of credits with what is missing."""
    error = ProblemError(reason, detail, **members)
    if error.status_code == 402:
        error.members |= {
            "required": shortage.get("required"),
            "available": shortage.get("available", available),
            "resets_at": shortage.get("resets_at"),
        }
    return error
