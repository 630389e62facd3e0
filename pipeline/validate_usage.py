"""A usage event whose envelope is good: its data, time and fingerprint. Also the usage that a hold or capture names."""

from typing import Any, Final, cast

import orjson

from pipeline.domain.instants import Instant, parse_instant
from pipeline.domain.reasons import Reason
from pipeline.domain.usage import UsageEvent, fingerprint_of
from pipeline.validate_data import CHANNELS, Fault, ServiceData, integer, service_data, shown
from schemas.usage_event import DATA_NESTING_MAX, IMAGES_MAX, TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

SERVICES: Final[dict[str, ServiceData]] = {
    f"{USAGE_TYPE_PREFIX}{each.service}{TYPE_VERSION_SUFFIX}": each for each in service_data()
}
"""CloudEvents type → what its `data` holds."""

_EVERY_SERVICE: Final = frozenset({"images", "channel"})


def usage_event(event: dict[str, Any], service: ServiceData) -> UsageEvent:
    """Read one whose envelope was checked. Raises Fault."""
    at = occurred_at(event)
    data = event.get("data")
    if type(data) is not dict:
        raise Fault("/data", f"expected a JSON object, got {shown(data)}")
    data = cast(dict[str, Any], data)
    images = integer(data, "images", IMAGES_MAX) if "images" in data else 1
    channel = data.get("channel", "api")
    if channel not in CHANNELS:
        raise Fault("/data/channel", f"expected 'web' or 'api', got {shown(channel)}")
    quality, micropixels, transparent = service.read(data)
    known = service.known
    unknown = {name: data[name] for name in data if name not in known and name not in _EVERY_SERVICE}
    inputs = {name: data[name] for name in data if name not in unknown} if unknown else data
    return UsageEvent(
        event["subject"],
        event["id"],
        event["source"],
        service.service,
        at,
        channel,
        images,
        quality,
        micropixels,
        transparent,
        inputs,
        unknown,
        fingerprint_of(event["type"], canonical_json(data)),
    )


def envelope_fault(name: str, expected: str, came: object) -> Fault:
    return Fault(f"/{name}", f"expected {expected}, got {shown(came)}", Reason.INVALID_ENVELOPE)


def occurred_at(event: dict[str, Any]) -> Instant:
    time = event.get("time")
    try:
        if type(time) is str:
            return parse_instant(time)
    except ValueError as error:
        raise Fault("/time", str(error), Reason.INVALID_ENVELOPE) from error
    raise envelope_fault("time", "an RFC 3339 instant", time)


def canonical_json(data: dict[str, Any]) -> bytes:
    """The same bytes for the same content."""
    try:
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:  # Nested deeper than the encoder goes.
        raise _too_deep() from error
    if _may_be_deep(canonical) and _levels(data) > DATA_NESTING_MAX:
        raise _too_deep()
    return canonical


def _too_deep() -> Fault:
    return Fault("/data", f"expected at most {DATA_NESTING_MAX} levels of objects and lists, got more")


def _may_be_deep(canonical: bytes) -> bool:
    """Quick, and wrong only on the safe side: brackets may stand side by side or in strings."""
    if len(canonical) <= 2 * DATA_NESTING_MAX:  # Each level costs two.
        return False
    return canonical.count(b"{") + canonical.count(b"[") > DATA_NESTING_MAX


def _levels(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(_levels, value.values()), default=0)
        case list():
            return 1 + max(map(_levels, value), default=0)
        case _:
            return 0
