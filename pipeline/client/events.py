"""Builds usage events as producers publish them: CloudEvents 1.0, structured mode."""

from collections.abc import Mapping
from typing import Any

import orjson

from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX


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
    """Key and value of the event's record. Without a subject there is no key; the stream says what is wrong."""
    subject = event.get("subject")
    return subject.encode() if isinstance(subject, str) else None, orjson.dumps(event)
