"""Operators' corrections over HTTP: charges taken back or priced again, dead letters put back, and how it all runs."""

import asyncio
import time
from base64 import b64decode
from contextlib import closing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from pipeline.clickhouse import Client
from pipeline.client.events import encode
from pipeline.corrections import charges_of, record_place
from pipeline.gateway.access import AccountInPath, Operates
from pipeline.gateway.account_routes import freshness_answer
from pipeline.gateway.audit import audited
from pipeline.gateway.commanding import command_id_of, obey, send
from pipeline.gateway.json_answers import json_answer
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import object_of
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.query import dead_letters, stored
from pipeline.query.accounts import BEGINNING
from pipeline.readmission import Letter, NotStoredError, Readmission, letter_of
from schemas.account_command import OFFSET_MAX
from schemas.http_api import (
    CommandAnswer,
    DeadLetterAnswer,
    DeadLettersAnswer,
    PipelineAnswer,
    ReplayAnswer,
)

router: Final = APIRouter(prefix="/v1", tags=["Operators"])
STORED_SECONDS_MAX: Final = 5
"""For the sink to pass what a look at the records must see."""
STORED_POLL_SECONDS: Final = 0.2
"""Between two looks. Of one batch the sink stores the balances and the records within less."""
Place = Annotated[int, Path(ge=0, le=OFFSET_MAX)]


@router.post("/accounts/{account_id}/charges/{event_id:path}/reverse")
async def reverse_charge(
    request: Request, holder: Operates, account_id: AccountInPath, event_id: str
) -> CommandAnswer:
    """Take a charge back, in whole or in part. The credits return to the grants that paid, the last used first."""
    return await _correct(request, holder, "reverse", account_id, event_id)


@router.post("/accounts/{account_id}/charges/{event_id:path}/rerate")
async def rerate_charge(
    request: Request, holder: Operates, account_id: AccountInPath, event_id: str
) -> CommandAnswer:
    """Charge past usage by another price book: the old charge is taken back and the new one made, or neither."""
    return await _correct(request, holder, "rerate", account_id, event_id)


async def _correct(request: Request, holder: Holder, name: str, account: str, event_id: str) -> CommandAnswer:
    parts, command_id = parts_of(request), command_id_of(request)
    body = await object_of(request, parts.settings.gateway)
    offset = body.pop("offset", None)
    charges = await _charges(parts, event_id, account)
    found = [each for each in charges if offset is None or each["offset"] == offset]
    if not found:
        raise ProblemError("unknown_charge", "expected the id of an event that this account was charged for")
    if len(found) > 1:
        raise ProblemError(
            "charge_ambiguous", "expected the offset of one of several charges", pointer="/offset"
        )
    place = await asyncio.to_thread(record_place, parts.settings, found[0])
    if place is None:
        raise ProblemError("charge_too_old", "the charge's record is no longer kept; give credits instead")
    async with audited(parts, request, holder, f"account.{name}", account=account, command_id=command_id):
        return await obey(parts, holder, name, account, {**body, "record": place}, command_id)


async def _charges(parts: Parts, event_id: str, account: str) -> list[dict[str, Any]]:
    """The charges with this id. Whoever was told of a charge may correct it at once, so the sink is waited for until it
    has stored what the balances show. Raises `store_behind` when that takes too long."""
    await parts.views.catch_up(account)
    partition, newest = parts.views.partition_of(account), parts.views.newest()
    until, was_stored = time.monotonic() + STORED_SECONDS_MAX, False
    while True:
        found = await parts.store.ask(lambda client: charges_of(client, event_id, account=account))
        if found or was_stored or partition is None:
            return found
        if time.monotonic() > until:
            raise ProblemError("store_behind", "the newest charges are not stored yet", retry_after=2)
        reached = await parts.store.ask(stored.balances_reached)
        was_stored = reached.get(partition, -1) >= newest.get(partition, -1)
        await asyncio.sleep(STORED_POLL_SECONDS)


@router.get("/dead-letters", response_model=DeadLettersAnswer)
async def list_dead_letters(
    request: Request,
    _holder: Operates,
    account: Annotated[str, Query(max_length=128)] = "",
    reason: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """What could not be metered, the newest first, without its bytes."""
    reasons = [reason] if reason else []
    found = await parts_of(request).store.ask(
        lambda client: dead_letters.dead_letters(
            client, account=account, reasons=reasons, since=BEGINNING, limit=limit
        )
    )
    return json_answer({"dead_letters": [{name: each[name] for name in _LETTER} for each in found]})


@router.get("/dead-letters/{partition}/{offset}", response_model=DeadLetterAnswer)
async def show_dead_letter(request: Request, _holder: Operates, partition: Place, offset: Place) -> Response:
    """One letter with its bytes, and the event in it if it is one."""
    record = await _letter(parts_of(request), partition, offset)
    fault = ""
    try:
        event = letter_of(record).event
    except ValueError as error:
        event, fault = None, str(error)
    payload = b64decode(record["payload_base64"]).decode("utf-8", "backslashreplace")
    shown = {name: record[name] for name in _LETTER}
    return json_answer({**shown, "payload": payload, "event": event, "fault": fault})


@router.post("/dead-letters/{partition}/{offset}/replay")
async def replay_dead_letter(
    request: Request, holder: Operates, partition: Place, offset: Place
) -> ReplayAnswer:
    """Put a letter back, as it is or mended (`event`); with `dry_run` only say whether it could be. It is charged at
    most once, however long ago a copy of it was answered."""
    parts = parts_of(request)
    body = await object_of(request, parts.settings.gateway)
    record = await _letter(parts, partition, offset)
    try:
        letter = letter_of(record, body.get("event"))
    except ValueError as error:
        raise ProblemError("invalid_data", str(error), pointer="/event") from error
    account = letter.event["subject"]
    if body.get("dry_run") is True:
        return ReplayAnswer(account_id=account, event_id=letter.event["id"], command=None)
    async with audited(parts, request, holder, "dead_letter.replay", account=account):
        return await _put_back(parts, holder, letter)


async def _put_back(parts: Parts, holder: Holder, letter: Letter) -> ReplayAnswer:
    def command(client: Client) -> dict[str, Any]:
        with closing(Readmission(parts.settings, client, parts.signing, source=holder.source)) as readmission:
            return readmission.commands([letter], seconds_max=STORED_SECONDS_MAX)[0]

    try:
        event = await parts.store.ask(command)
    except NotStoredError as error:
        raise ProblemError("store_behind", str(error), retry_after=2) from error
    key, value = encode(event)
    assert key is not None, "a command has a subject"
    answer = await send(parts, "readmit", key.decode(), value, event["id"])
    return ReplayAnswer(account_id=letter.event["subject"], event_id=letter.event["id"], command=answer)


async def _letter(parts: Parts, partition: int, offset: int) -> dict[str, Any]:
    found = await parts.store.ask(lambda client: dead_letters.dead_letter(client, partition, offset))
    if found is None:
        raise ProblemError("unknown_dead_letter", "expected the place of a dead letter")
    return found


_LETTER: Final = [name for name in DeadLetterAnswer.model_fields if name not in {"payload", "event", "fault"}]


@router.get("/pipeline")
async def pipeline(request: Request, _holder: Operates) -> PipelineAnswer:
    """How the pipeline runs: how far behind its tables are, what it did lately, whether the sums agree."""
    parts = parts_of(request)
    fresh = await parts.freshness.of(None)
    posted = parts.views.posted()
    found = await parts.store.ask(stored.figures)
    lags = [
        {"partition": partition, "newest": newest, "stored": found["reached"].get(partition, 0)}
        for partition, newest in sorted(parts.views.newest().items())
    ]
    return PipelineAnswer.model_validate(
        {
            "freshness": freshness_answer(fresh),
            "partitions": lags,
            "accounts": posted[0],
            "posted_in_memory": posted[1],
            "posted_in_ledger": found["posted"],
            "last_hour": found["last_hour"],
            "dead_letters": found["dead_letters"],
        }
    )
