"""Builds usage events as producers publish them: CloudEvents 1.0, structured mode."""

import json
from collections.abc import Mapping
from typing import Any, Final

from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

STRUCTURED_MODE: Final[list[tuple[str, str | bytes | None]]] = [
    ("content-type", b"application/cloudevents+json; charset=utf-8")
]
"""The headers of a record whose value is the whole event."""


def usage_type(service: str) -> str:
    """The CloudEvents type of a service's usage."""
    return f"{USAGE_TYPE_PREFIX}{service}{TYPE_VERSION_SUFFIX}"


def usage_event(
    service: str, *, account: str, event_id: str, source: str, time: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The claim that `account` used `service` once. The same id for every resend, always."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": usage_type(service),
        "subject": account,
        "time": time,
        "datacontenttype": "application/json",
        "data": dict(data),
    }


def encode(event: Mapping[str, Any]) -> tuple[bytes | None, bytes]:
    """Key and value of the event's record. Without a subject there is no key; the stream says what is wrong.

    Raises TypeError, ValueError or RecursionError when the event holds what JSON in UTF-8 cannot say.
    """
    subject = event.get("subject")
    value = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return subject.encode() if isinstance(subject, str) else None, value
