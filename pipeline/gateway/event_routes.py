"""`POST /v1/events` and `POST /v1/estimate`: usage comes in, and what usage would cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from pipeline.client.origin import now
from pipeline.client.outcomes import Outcome, Position
from pipeline.client.publisher import Delivered
from pipeline.domain.credits import format_credits, parse_credits
from pipeline.domain.reasons import Reason
from pipeline.gateway import cloud_events
from pipeline.gateway.access import Anyone, Ingests
from pipeline.gateway.answers import OF_USAGE
from pipeline.gateway.cloud_events import Verdict
from pipeline.gateway.commanding import refusal
from pipeline.gateway.kafka_log import NotAcknowledged, Report
from pipeline.gateway.limits import body_of, object_of
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError, status_of
from pipeline.pricing import Pricing
from pipeline.validate_data import shown
from schemas.http_api import EstimateAnswer, EstimateItem, EventOutcome, EventResult, EventsAnswer

router: Final = APIRouter(prefix="/v1", tags=["Usage"])
Wait = Annotated[
    Literal["outcome"] | None, Query(description="`outcome`: answer when it is known what each event cost")
]
_NOTHING: Final = Decimal(0)
_SET_ASIDE: Final = Reason.LATE
"""A dead letter that comes back by itself once it is seen to be no resend."""


@router.post("/events", response_model=EventsAnswer)
async def publish_events(request: Request, holder: Ingests, wait: Wait = None) -> Response:
    """Publish usage as CloudEvents: one in structured or binary mode, or a batch.

    Answered once Kafka has acknowledged: 202, or 200 with `?wait=outcome`. A batch has a result for each event and is
    never refused for one of them. A single event is answered by its own result, and by a problem if it is rejected.
    """
    parts = parts_of(request)
    is_batch = cloud_events.is_batch(request)
    body = await body_of(request, parts.settings.gateway)
    events = cloud_events.read(request, body, batch_events_max=parts.settings.gateway.batch_events_max)
    parts.rates.take(holder.key_id, len(events) - 1)
    event_bytes_max = parts.settings.rules.event_bytes_max
    verdicts = [
        cloud_events.judge(event, value, holder, event_bytes_max=event_bytes_max) for event, value in events
    ]
    results = await _published(parts, verdicts, wait=wait)
    for each in results:
        parts.metrics.events.labels(each.status, each.code).inc()
    return _batch_response(results, wait) if is_batch else _single_response(results[0], wait)


async def _published(parts: Parts, verdicts: Sequence[Verdict], *, wait: str | None) -> list[EventResult]:
    good = [(index, each) for index, each in enumerate(verdicts) if each.value]
    records = [(each.account.encode(), each.value) for _, each in good]
    reports: dict[int, Report] = {}
    outcomes: Mapping[Position, Outcome] = {}
    with parts.answers.expecting({key for key, _ in records} if wait else set()):
        for (index, verdict), report in zip(good, await parts.log.publish(records), strict=True):
            reports[index] = report
            if isinstance(report, Delivered):
                parts.views.wrote(verdict.account, (report.partition, report.offset))
        if wait:
            wanted: dict[Position, bytes] = {
                (report.partition, report.offset): verdicts[index].account.encode()
                for index, report in reports.items()
                if isinstance(report, Delivered)
            }
            outcomes = await parts.answers.of(wanted, OF_USAGE)
    return [_result(index, each, reports.get(index), outcomes) for index, each in enumerate(verdicts)]


def _result(
    index: int, verdict: Verdict, report: Report | None, outcomes: Mapping[Position, Outcome]
) -> EventResult:
    said = EventResult(index=index, id=verdict.id, source=verdict.source, status="accepted")
    match report:
        case None:
            why = {"code": verdict.code, "pointer": verdict.pointer, "detail": verdict.detail}
            return said.model_copy(update={"status": "rejected", **why})
        case NotAcknowledged(detail):
            return said.model_copy(update={"status": "not_acknowledged", "detail": detail})
        case Delivered(partition, offset):
            outcome = outcomes.get((partition, offset))
            told = {} if outcome is None else _of_outcome(outcome)
            return said.model_copy(update={"partition": partition, "offset": offset, **told})


def _of_outcome(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    if outcome.kind == "dead_letter":
        reason = record["reason"]
        told = EventOutcome(
            outcome="dead_letter",
            reason=reason,
            credits=_NOTHING,
            rated_credits=_NOTHING,
            balance_after=None,
        )
        why = {"code": reason, "pointer": record["pointer"], "detail": record["detail"], "outcome": told}
        return {"status": "accepted" if reason == _SET_ASIDE else "rejected", **why}
    told = EventOutcome.model_validate_json(
        orjson.dumps({name: record[name] for name in EventOutcome.model_fields})
    )
    return {"status": "duplicate" if record["outcome"] == "duplicate" else "accepted", "outcome": told}


def _batch_response(results: list[EventResult], wait: str | None) -> Response:
    counts = Counter(each.status for each in results)
    answer = EventsAnswer(
        accepted=counts["accepted"],
        duplicate=counts["duplicate"],
        rejected=counts["rejected"],
        not_acknowledged=counts["not_acknowledged"],
        results=results,
    )
    status = 503 if counts["not_acknowledged"] else 200 if wait else 202
    headers = {"Retry-After": "1"} if status == 503 else None
    return _json_response(answer.model_dump_json(), status, headers)


def _single_response(result: EventResult, wait: str | None) -> Response:
    outcome = result.outcome
    if result.status == "rejected":
        raise ProblemError(result.code, result.detail, pointer=result.pointer)
    if result.status == "not_acknowledged":
        raise ProblemError("kafka_unavailable", f"Kafka did not acknowledge: {result.detail}", retry_after=1)
    if outcome is not None and status_of_denial(outcome) == 402:
        detail = "used all the same, and recorded at 0 credits"
        shortage = {"required": format_credits(parse_credits(format(outcome.rated_credits, "f")))}
        raise refusal(outcome.reason, detail, shortage, available=None, result=result.model_dump(mode="json"))
    known = wait and (outcome is not None or result.code == _SET_ASIDE)
    return _json_response(result.model_dump_json(), 200 if known else 202)


def status_of_denial(outcome: EventOutcome) -> int | None:
    """402 for usage that was denied for want of credits, now or when its first copy came."""
    reason = outcome.reason
    return None if reason in {"", "duplicate"} else status_of(reason)


def _json_response(content: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, headers, media_type="application/json")


@router.post("/estimate", response_model=EstimateAnswer)
async def estimate(request: Request, holder: Anyone) -> Response:
    """What usage would cost by the price book that is in force now. Nothing is set aside and nothing charged."""
    parts = parts_of(request)
    usages = (await object_of(request, parts.settings.gateway)).get("usages")
    most = parts.settings.gateway.batch_events_max
    if not (isinstance(usages, list) and 1 <= len(usages) <= most):
        raise ProblemError(
            "invalid_data", f"expected 1 to {most} usages, got {shown(usages)}", pointer="/usages"
        )
    parts.rates.take(holder.key_id, len(usages) - 1)
    pricing = (await parts.schedule.now()).pricing
    items = [_estimated(pricing, index, each) for index, each in enumerate(usages)]
    total = sum((each.credits for each in items if each.credits is not None), _NOTHING)
    return _json_response(EstimateAnswer(credits=total, items=items).model_dump_json(), 200)


def _estimated(pricing: Pricing, index: int, usage: object) -> EstimateItem:
    asked = (
        {name: usage[name] for name in ("type", "data") if name in usage}
        if isinstance(usage, dict)
        else usage
    )
    if isinstance(asked, dict):
        asked["accepted_at"] = now()
        asked.setdefault("data", {})
    answer = orjson.loads(pricing.answer(index, _bytes(asked)))
    if answer["credits"] is None:
        return EstimateItem(
            credits=None, code=answer["reason"], pointer=answer["pointer"], detail=answer["detail"]
        )
    known = {name: answer[name] for name in EstimateItem.model_fields if name in answer}
    return EstimateItem.model_validate_json(orjson.dumps(known))


def _bytes(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ProblemError("malformed_json", "expected fewer levels of objects and lists") from error
