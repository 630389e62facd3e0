"""Price books and plan catalogues published over HTTP: to every partition, by the checks of the command line."""

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request

from pipeline.client.commands import signed
from pipeline.client.origin import now, now_text
from pipeline.client.outcomes import Outcome
from pipeline.client.publication import checked, earliest, publication, publish
from pipeline.client.schedule import PLAN_CATALOGS, PRICE_BOOKS, Kind
from pipeline.domain.instants import as_datetime, format_instant
from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.gateway.access import Operates
from pipeline.gateway.answers import OF_COMMANDS, SCHEDULE_KEY
from pipeline.gateway.audit import audited
from pipeline.gateway.commanding import command_id_of
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import object_of
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.kafka import KafkaException
from pipeline.validate_data import Fault
from schemas.http_api import PartitionAnswer, PublishedAnswer

router: Final = APIRouter(prefix="/v1", tags=["Operators"])


@router.post("/price-books", status_code=201)
async def publish_price_book(request: Request, holder: Operates) -> PublishedAnswer:
    """Publish a price book: all partitions switch at its `effective_from`, at least two minutes from now."""
    return await _published(request, holder, PRICE_BOOKS, "price_book.publish")


@router.post("/plans", status_code=201)
async def publish_plans(request: Request, holder: Operates) -> PublishedAnswer:
    """Publish a plan catalogue. Every plan that there was must still be in it; a running period keeps what it has."""
    return await _published(request, holder, PLAN_CATALOGS, "plan_catalog.publish")


async def _published(request: Request, holder: Holder, kind: Kind, action: str) -> PublishedAnswer:
    parts, command_id = parts_of(request), command_id_of(request)
    content = await object_of(request, parts.settings.gateway)
    version = _version(parts, kind, content)
    event = publication(
        kind.type,
        content,
        sha256=version.sha256,
        command_id=command_id,
        source=holder.source,
        at=now_text(),
    )
    async with audited(parts, request, holder, action, command_id=command_id):
        answers = [_answer(each) for each in await _outcomes(parts, event)]
        _require_accepted(answers)
    return PublishedAnswer(
        version=version.version,
        sha256=version.sha256,
        effective_from=as_datetime(version.effective_from),
        partitions=answers,
    )


def _version(parts: Parts, kind: Kind, content: dict[str, Any]) -> PriceBook | PlanCatalog:
    """Raises a problem for what the rules would refuse anyhow, and for what partitions might disagree on."""
    try:
        version = checked(kind.type, content)
    except Fault as fault:
        pointer = fault.pointer.removeprefix("/data/content").removeprefix("/data")
        raise ProblemError("invalid_data", fault.detail, pointer=pointer) from fault
    first = earliest(now(), parts.settings.rules.publish_lead_seconds)
    if version.effective_from < first:
        detail = f"expected effective_from at or after {format_instant(first)}: all partitions must have it by then"
        raise ProblemError("takes_force_too_soon", detail, pointer="/effective_from")
    return version


async def _outcomes(parts: Parts, event: dict[str, Any]) -> list[Outcome]:
    """Of every partition, in their order. Raises a problem while one of them is missing."""
    with parts.answers.expecting([SCHEDULE_KEY]):
        try:
            sent = await asyncio.to_thread(publish, parts.settings, signed(event, parts.signing))
        except KafkaException as error:
            detail = "Kafka did not say that it is published; ask again with the same Idempotency-Key"
            raise ProblemError("kafka_unavailable", detail, retry_after=1) from error
        found = await parts.answers.of(
            {(each.partition, each.offset): SCHEDULE_KEY for each in sent}, OF_COMMANDS
        )
    missing = [each.partition for each in sent if (each.partition, each.offset) not in found]
    if missing:
        detail = (
            f"it stands in the log, and no worker has answered in the partitions {missing} yet; "
            "ask again with the same Idempotency-Key"
        )
        raise ProblemError("outcome_pending", detail, retry_after=1)
    return [found[each.partition, each.offset] for each in sent]


def _answer(outcome: Outcome) -> PartitionAnswer:
    record = outcome.record
    is_answer = outcome.kind == "command_result"
    return PartitionAnswer(
        partition=record["partition"],
        offset=record["offset"],
        outcome=record["outcome"] if is_answer else "dead_letter",
        is_accepted=is_answer and record["first_outcome"] == "accepted",
        reason=record["reason"],
        detail=record["detail"],
    )


def _require_accepted(answers: list[PartitionAnswer]) -> None:
    refused = [each for each in answers if not each.is_accepted]
    if not refused:
        return
    if len(refused) < len(answers):
        detail = (
            "some partitions price by this version from its instant on, some do not: publish the same content at once, "
            "under a new version and with more time"
        )
        places = [each.model_dump(mode="json") for each in answers]
        raise ProblemError("partitions_disagree", detail, partitions=places)
    first = refused[0]
    raise ProblemError(first.reason, first.detail or "refused before, by the same Idempotency-Key")
