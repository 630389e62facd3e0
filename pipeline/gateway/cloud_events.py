"""CloudEvents from an HTTP request (structured, batch, binary), each judged by the stream's own gate.

What the gate would make a dead letter never reaches the log: its sender hears why at once. Only usage passes; the
gateway makes commands itself, from requests of their own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import Request

from pipeline.domain.reasons import Reason
from pipeline.domain.usage import UsageEvent
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import media_type, unsupported
from pipeline.gateway.problems import ProblemError
from pipeline.validate import Invalid, parse_event
from pipeline.validate_data import shown

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
_JSON: Final = "application/json"
_ATTRIBUTE: Final = re.compile(r"ce-([a-z0-9]{1,64})")
ATTRIBUTES_MAX: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One event of a request: to be published, or why not."""

    id: str | None
    source: str | None
    account: str
    """Empty when rejected."""
    value: bytes
    """The record's value; empty when rejected."""
    code: str = ""
    pointer: str = ""
    detail: str = ""


def is_batch(request: Request) -> bool:
    return media_type(request) == BATCH


def read(request: Request, body: bytes, *, batch_events_max: int) -> list[tuple[object, bytes]]:
    """The events of a request, each as JSON and as bytes. Raises a problem when it is no CloudEvents request."""
    kind = media_type(request)
    attributes = _attributes(request)
    if kind == STRUCTURED:
        return [(_json(body), body)]
    if kind == BATCH:
        events = _json(body)
        if not isinstance(events, list):
            raise ProblemError("malformed_json", f"expected a JSON array of events, got {shown(events)}")
        if len(events) > batch_events_max:
            detail = f"expected at most {batch_events_max} events in a batch, got {len(events)}"
            raise ProblemError("batch_too_large", detail)
        return [(event, _bytes(event)) for event in events]
    if attributes and kind in {_JSON, ""}:  # Data without a type is JSON (CloudEvents 1.0, 3.1.1).
        event = {**attributes, "datacontenttype": _JSON, "data": _json(body)}
        return [(event, _bytes(event))]
    if kind == _JSON:
        raise ProblemError("unsupported_media_type", f"expected ce-… headers (binary mode), or {STRUCTURED}")
    raise unsupported(STRUCTURED, BATCH, f"{_JSON} with ce-… headers")


def judge(event: object, value: bytes, holder: Holder, *, event_bytes_max: int) -> Verdict:
    """The gate's verdict, and whether the key may write to the account."""
    if type(event) is not dict:
        return _rejected({}, Invalid(Reason.MALFORMED_JSON, f"expected a JSON object, got {shown(event)}"))
    attributes: dict[str, Any] = event
    if len(value) > event_bytes_max:
        detail = f"expected at most {event_bytes_max} bytes, got {len(value)}"
        return _rejected(attributes, Invalid(Reason.TOO_LARGE, detail))
    subject = attributes.get("subject")
    key = subject.encode("utf-8", "surrogatepass") if isinstance(subject, str) else None
    parsed = parse_event(attributes, key, {})
    match parsed:
        case UsageEvent():
            if not holder.may_touch(parsed.account_id):
                detail = "expected an account that this key is bound to"
                return Verdict(
                    id=parsed.event_id, source=parsed.source, account="", value=b"",
                    code="account_not_allowed", pointer="/subject", detail=detail,
                )  # fmt: skip
            return Verdict(id=parsed.event_id, source=parsed.source, account=parsed.account_id, value=value)
        case Invalid(reason=Reason.UNSIGNED | Reason.BAD_SIGNATURE):
            return _rejected(attributes, _NOT_USAGE)
        case Invalid():
            return _rejected(attributes, parsed)
        case _:
            return _rejected(attributes, _NOT_USAGE)


_NOT_USAGE: Final = Invalid(
    Reason.UNKNOWN_TYPE, "expected usage; commands have requests of their own, see /docs", "/type"
)


def _rejected(event: Mapping[str, Any], why: Invalid) -> Verdict:
    event_id, source = event.get("id"), event.get("source")
    return Verdict(
        id=event_id[:256] if isinstance(event_id, str) else None,
        source=source[:256] if isinstance(source, str) else None,
        account="",
        value=b"",
        code=why.reason,
        pointer=why.pointer,
        detail=why.detail,
    )


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise ProblemError("malformed_json", f"expected JSON in UTF-8: {error}") from error


def _bytes(event: object) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError as error:  # Nested deeper than the encoder goes.
        raise ProblemError("malformed_json", "expected fewer levels of objects and lists") from error


def _attributes(request: Request) -> dict[str, str]:
    """Attributes of binary mode. Values are percent-encoded UTF-8 (CloudEvents' HTTP binding, 3.1.3.2)."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        matched = _ATTRIBUTE.fullmatch(name)
        if matched is None:
            continue
        attribute = matched[1]
        if attribute in found or attribute == "data" or len(found) >= ATTRIBUTES_MAX:
            detail = f"expected each of at most {ATTRIBUTES_MAX} ce- headers once, and none for data"
            raise ProblemError("invalid_envelope", detail, pointer=f"/{attribute}")
        try:
            found[attribute] = unquote_to_bytes(value.strip('"').encode("latin-1")).decode()
        except UnicodeDecodeError as error:
            detail = f"expected percent-encoded UTF-8 in the header {name}"
            raise ProblemError("invalid_envelope", detail, pointer=f"/{attribute}") from error
    return found
