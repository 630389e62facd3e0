"""Bytes to usage events, commands and ticks, or to the reason why not. The one gate; inside, types are trusted.

Written by hand because every event passes here: pydantic needs several times as long. `schemas/` says the same in
models for producers, and the contract tests hold both to the same examples. Nothing here looks at state.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import orjson

from pipeline.domain.commands import Command, Publication, Tick
from pipeline.domain.reasons import Reason
from pipeline.domain.signing import signed_bytes, verified
from pipeline.domain.usage import AccountId, UsageEvent, fingerprint_of
from pipeline.validate_command import COMMANDS, parse_body
from pipeline.validate_data import Fault, is_text, shown
from pipeline.validate_publication import PUBLICATIONS, published_content
from pipeline.validate_usage import SERVICES, canonical_json, envelope_fault, occurred_at, usage_event
from schemas.account_command import TICK_TYPE
from schemas.base import ACCOUNT_ID_PATTERN, EVENT_ID_LENGTH_MAX, SOURCE_LENGTH_MAX
from schemas.publication import SCHEDULE_SUBJECT

_ACCOUNT_ID: Final = re.compile(ACCOUNT_ID_PATTERN)


class LogRecord(Protocol):
    """One record of the input log, as aiokafka has it. `timestamp` is the broker's append time in ms.

    A header may have no value."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why a record is malformed, and as much of its name as could be read."""

    reason: Reason
    detail: str
    pointer: str = ""
    event_id: str = ""
    source: str = ""
    type: str = ""


Parsed: TypeAlias = UsageEvent | Command | Publication | Tick | Invalid


def parse(record: LogRecord, *, event_bytes_max: int, command_keys: Mapping[str, bytes]) -> Parsed:
    """Read one record, CloudEvents in structured or binary mode."""
    value = record.value
    if value is None or len(value) > event_bytes_max:
        return _no_payload(value, event_bytes_max)
    try:
        event = cloud_event(value, record.headers)
    except ValueError as error:
        return Invalid(Reason.MALFORMED_JSON, f"expected JSON in UTF-8: {error}")
    if type(event) is not dict:
        return Invalid(Reason.MALFORMED_JSON, f"expected a JSON object, got {shown(event)}")
    return parse_event(event, record.key, command_keys)


def cloud_event(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> object:
    """The CloudEvent of a record, in structured or binary mode, as it came. Raises ValueError for what is no JSON."""
    event: object = orjson.loads(value)
    return _binary_mode(event, headers) if headers else event


def parse_event(event: dict[str, Any], key: bytes | None, command_keys: Mapping[str, bytes]) -> Parsed:
    """Read one CloudEvent that is JSON already."""
    kind = event.get("type")
    service = SERVICES.get(kind) if type(kind) is str else None  # A list cannot be looked up.
    try:
        if service is not None:
            _check_envelope(event, key)
            return usage_event(event, service)
        return _no_usage(event, key, command_keys)
    except Fault as fault:
        return _invalid(event, fault)


def _no_usage(
    event: dict[str, Any], key: bytes | None, command_keys: Mapping[str, bytes]
) -> Command | Publication | Tick:
    kind = event.get("type")
    if kind == TICK_TYPE:
        return Tick()
    if not isinstance(kind, str):
        raise Fault("/type", f"expected a string, got {shown(kind)}", Reason.INVALID_ENVELOPE)
    if kind in PUBLICATIONS:
        return _publication(event, key, command_keys)
    if kind not in COMMANDS:
        services = ", ".join(each.service for each in SERVICES.values())
        detail = f"expected org.apimage.usage.<service>.v1 with one of {services}, or an account command"
        raise Fault("/type", f"{detail}; got {shown(kind)}", Reason.UNKNOWN_TYPE)
    _check_envelope(event, key)
    at = occurred_at(event)
    data, canonical = _signed_data(event, command_keys)
    return Command(
        account_id=AccountId(event["subject"]),
        command_id=event["id"],
        source=event["source"],
        type=kind,
        occurred_at=at,
        body=parse_body(event, data),
        fingerprint=fingerprint_of(kind, canonical),
    )


def _publication(event: dict[str, Any], key: bytes | None, command_keys: Mapping[str, bytes]) -> Publication:
    _check_names(event)
    subject = event.get("subject")
    if subject != SCHEDULE_SUBJECT:
        raise envelope_fault("subject", f"{SCHEDULE_SUBJECT!r}, as for every publication", subject)
    _check_key(event, key)
    at = occurred_at(event)
    data, canonical = _signed_data(event, command_keys)
    content, published = published_content(event["type"], data)
    return Publication(
        command_id=event["id"],
        source=event["source"],
        type=event["type"],
        occurred_at=at,
        content=content,
        published=published,
        fingerprint=fingerprint_of(event["type"], canonical),
    )


def _check_envelope(event: dict[str, Any], key: bytes | None) -> None:
    """The attributes that every event has. One test for the usual case; the other rules it out or says why not."""
    event_id, source, subject = event.get("id"), event.get("source"), event.get("subject")
    if (
        type(event_id) is str
        and 0 < len(event_id) <= EVENT_ID_LENGTH_MAX
        and event_id.isascii()
        and event_id.isprintable()
        and type(source) is str
        and 0 < len(source) <= SOURCE_LENGTH_MAX
        and source.isascii()
        and source.isprintable()
        and type(subject) is str
        and _ACCOUNT_ID.fullmatch(subject)
        and subject.encode() == key
        and event.get("specversion") == "1.0"
    ):
        return
    _check_each(event, key)


def _check_each(event: dict[str, Any], key: bytes | None) -> None:
    _check_names(event)
    subject = event.get("subject")
    if not (isinstance(subject, str) and _ACCOUNT_ID.fullmatch(subject)):
        raise envelope_fault("subject", f"an account id like {ACCOUNT_ID_PATTERN}", subject)
    _check_key(event, key)


def _check_names(event: dict[str, Any]) -> None:
    if event.get("specversion") != "1.0":
        raise envelope_fault("specversion", "'1.0'", event.get("specversion"))
    for name, length_max in (("id", EVENT_ID_LENGTH_MAX), ("source", SOURCE_LENGTH_MAX)):
        if not is_text(event.get(name), length_max):
            expected = f"a string of 1 to {length_max} characters without control characters"
            raise envelope_fault(name, expected, event.get(name))


def _check_key(event: dict[str, Any], key: bytes | None) -> None:
    subject: str = event["subject"]
    if subject.encode() != key:
        occurred_at(event)  # The whole envelope comes before the key.
        detail = f"expected the subject {shown(subject)} as the Kafka key, got {shown(key)}"
        raise Fault("/subject", detail, Reason.KEY_MISMATCH)


def _signed_data(event: dict[str, Any], keys: Mapping[str, bytes]) -> tuple[dict[str, Any], bytes]:
    """A command's data, and the same in canonical form, once its signature is seen to be good."""
    keyid, signature, data = event.get("keyid"), event.get("signature"), event.get("data")
    if not (isinstance(keyid, str) and isinstance(signature, str)):
        raise Fault("/signature", "expected attributes keyid and signature on a command", Reason.UNSIGNED)
    if type(data) is not dict:
        raise Fault("/data", f"expected a JSON object, got {shown(data)}")
    canonical = canonical_json(data)
    secret = keys.get(keyid)
    if secret is None:
        raise Fault(
            "/keyid", f"expected the id of a command key of ours, got {shown(keyid)}", Reason.BAD_SIGNATURE
        )
    message = signed_bytes(
        id=event["id"],
        source=event["source"],
        type=event["type"],
        subject=event["subject"],
        time=event["time"],
        data_json=canonical,
    )
    if not verified(secret, signature, message):
        raise Fault("/signature", f"expected the signature of key {shown(keyid)}", Reason.BAD_SIGNATURE)
    return data, canonical


def _binary_mode(data: object, headers: Sequence[tuple[str, bytes | None]]) -> object:
    """The event of Kafka's binary mode: attributes in `ce_*` headers, the value is `data`.

    The content type decides: a structured event may carry the same headers (CloudEvents' Kafka binding, 3.3.3).
    """
    attributes: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith("ce_") and value is not None:
            attributes[name[3:]] = value.decode()
        elif name == "content-type" and (value or b"").lower().startswith(b"application/cloudevents"):
            return data
    if not attributes:
        return data  # Headers of other origin, such as a trace, beside a structured event.
    return {**attributes, "data": data}


def _no_payload(value: bytes | None, event_bytes_max: int) -> Invalid:
    if value is None:
        return Invalid(Reason.MALFORMED_JSON, "expected JSON, got a record without a value")
    return Invalid(Reason.TOO_LARGE, f"expected at most {event_bytes_max} bytes, got {len(value)}")


def _invalid(event: dict[str, Any], fault: Fault) -> Invalid:
    def text(name: str, length_max: int) -> str:
        value = event.get(name)
        return value[:length_max] if isinstance(value, str) else ""

    event_id, source, kind = (
        text("id", EVENT_ID_LENGTH_MAX),
        text("source", SOURCE_LENGTH_MAX),
        text("type", 128),
    )
    return Invalid(fault.reason, fault.detail, fault.pointer, event_id, source, kind)
