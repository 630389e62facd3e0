"""The hand-written validation and the models agree on every event, not only on the examples."""

import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.validate import Invalid
from pipeline.validate_command import COMMANDS
from pipeline.validate_publication import ATTRIBUTES
from pipeline.validate_publication import PUBLICATIONS as PUBLISHED
from pipeline.validate_usage import SERVICES
from schemas.account_command import ACCOUNT_COMMAND, GRANT_CREDITS_MAX, HOLD_SECONDS_MAX, OFFSET_MAX
from schemas.base import UTC_INSTANT_PATTERN
from schemas.publication import PUBLICATION
from schemas.shapes import COMMANDS as COMMAND_SHAPES
from schemas.shapes import PUBLICATIONS, USAGE
from schemas.usage_event import (
    IMAGES_MAX,
    SCALE_MAX,
    SIDE_PIXELS_MAX,
    USAGE_EVENT,
)
from tests.contract.examples import COMMAND_KEYS, event_record, examples, parsed
from tests.contract.signatures import signed


def around(*bounds: int) -> st.SearchStrategy[Any]:
    """Numbers at a bound and next to it, and what only looks like such a number."""
    integers = st.sampled_from([bound + step for bound in bounds for step in (-1, 0, 1)])
    return st.one_of(
        integers, st.booleans(), integers.map(float), integers.map(str), integers.map(lambda n: n + 0.5)
    )


def long(*lengths: int) -> st.SearchStrategy[str]:
    return st.sampled_from(["é" * (length + step) for length in lengths for step in (-1, 0, 1)])


FLAGS = st.sampled_from([True, False, 0, 1, "true", None])
INSTANTS = st.from_regex(UTC_INSTANT_PATTERN, fullmatch=True) | st.sampled_from(
    [
        "2026-11-23T13:00:00Z",
        "2026-11-23t13:00:00.123456789z",
        "2026-11-23T13:00:00+23:59",
        "2026-11-23T13:00:00-24:00",
        "2026-11-23T24:00:00Z",
        "2026-11-23T13:00:60Z",
        "2026-11-23 13:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2299-12-31T23:59:59.999Z",
        "2300-01-01T00:00:00+00:01",
        "2299-12-31T23:59:59.999-00:01",
        "1970-01-01T00:00:00+00:00",
        "1970-01-01T00:00:00+00:01",
        "2026-11-23T13:00:00Z\n",
    ]
)
CONTROLS = st.sampled_from(["\x00", "a\nb", "a\x7f", "\x85", "a\u200db", "\ufffe", "a\n"])
AMOUNTS = around(0, 1, GRANT_CREDITS_MAX) | st.sampled_from(
    ["0.000001", "0.0000001", "0.5000000", "1e3", "+1", ".5", "5.", "٣", "1_0", "NaN", "0" * 13]
)
IDS = st.sampled_from(["a/b", "a b", "-a", "a@b:c_d-e.f", "ä", "a\n", ""]) | long(128)
NEAR: dict[str, st.SearchStrategy[Any]] = {
    "specversion": st.sampled_from(["1.0", "1", 1.0, "1.0.2"]),
    "id": CONTROLS | long(256),
    "source": CONTROLS | long(256),
    "subject": IDS,
    "time": INSTANTS,
    "images": around(0, 1, IMAGES_MAX, 2**64),
    "channel": st.sampled_from(["web", "api", "API", ["web"], ""]),
    "quality": st.sampled_from(["low", "medium", "high", "High", {"low": 1}]),
    "format": long(0, 64),
    "languages": st.lists(long(0, 64), max_size=2) | st.sampled_from([["en"] * n for n in (63, 64, 65)]),
    "scale": around(0, SCALE_MAX) | st.sampled_from([0.001, 0.0005, 1.1, 63.999, 64.001, 1e-9, -0.0, 1e300]),
    "plan": CONTROLS | long(64),
    "grant_id": IDS
    | st.sampled_from(["monthly:2026-11-23", "upgrade:", "overage", "Overage", "a-overage", "monthly"]),
    "kind": st.sampled_from(["prepaid", "gift", ["prepaid"]]),
    "credits": AMOUNTS,
    "overage_ceiling": AMOUNTS | st.none(),
    "alert_thresholds": st.lists(around(1, 1000), min_size=1, max_size=2)
    | around(1, 1000).map(lambda percent: [percent])
    | st.sampled_from([[], [80, 100, 110], [100, 80], [80, 80], None])
    | st.sampled_from([list(range(10, 10 + count)) for count in (7, 8, 9)]),
    "priority": around(0, 100),
    "effective_at": INSTANTS,
    "expires_at": INSTANTS,
    "reason": CONTROLS | long(256),
    "type": st.sampled_from(
        [*sorted(SERVICES), "org.apimage.account.hold.v1", "org.apimage.usage.upscaling.v2"]
    ),
    "hold_id": IDS,
    "seconds": around(0, 1, HOLD_SECONDS_MAX),
    "partition": around(0, OFFSET_MAX),
    "offset": around(0, OFFSET_MAX),
    "event_offset": around(0, OFFSET_MAX),
    "order": around(0, 1, OFFSET_MAX),
    "result": st.sampled_from(["succeeded", "declined", "pending", ["declined"]]),
    "reference": CONTROLS | long(256),
    "threshold": AMOUNTS,
    "credits_max_per_period": AMOUNTS,
    "pack": IDS | st.sampled_from(["credits-100", "Credits", "a" * 64, "a" * 65]),
    "price_book": CONTROLS | long(64),
    "accepted_at": INSTANTS,
    "same_content": FLAGS,
}
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(), SCALARS, max_size=2)
ENVELOPE = ("specversion", "id", "source", "subject", "time", "unknown")
COMMON = ("images", "channel", "unknown")
HELD = ("type", "id", "source", "time", "unknown")
"""Of the usage inside a hold or capture."""
INSIDE = {
    "letter": ("partition", "offset", "accepted_at", "unknown"),
    "known": ("offset", "same_content", "unknown"),
    "record": ("partition", "offset", "event_offset", "unknown"),
    "auto_topup": ("threshold", "pack", "credits_max_per_period", "unknown"),
}
"""Objects that stand in the data of a command."""
FLAG_NAMES = frozenset({"transparent_background", "partial"})
MISSING = object()

VALID: dict[str, list[dict[str, Any]]] = {
    shape: [each.content for each in examples("valid") if each.shape == shape]
    for shape in (*USAGE, *COMMAND_SHAPES, *PUBLICATIONS)
}


def _values(name: str) -> st.SearchStrategy[Any]:
    if name in {"width", "height", "output_width", "output_height", "input_width", "input_height"}:
        near = around(0, 1, SIDE_PIXELS_MAX)
    else:
        near = FLAGS if name in FLAG_NAMES else NEAR.get(name, ANYTHING)
    return st.one_of(near, near, near, near, ANYTHING, st.just(MISSING))


def _known(kind: str) -> Sequence[str]:
    if kind in PUBLISHED:
        return (*ATTRIBUTES, "unknown")
    return (*SERVICES[kind].known, *COMMON) if kind in SERVICES else (*COMMANDS[kind][1], "unknown")


def _places(event: dict[str, Any]) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """Objects of the event whose attributes are worth changing; data first, and more often than the envelope."""
    places: list[tuple[dict[str, Any], Sequence[str]]] = [(event["data"], _known(event["type"]))] * 4
    held = event["data"].get("usage")
    if isinstance(held, dict):
        places += [(held, HELD)] * 2
        kind, data = held.get("type"), held.get("data")
        if isinstance(kind, str) and kind in SERVICES and isinstance(data, dict):
            places += [(data, _known(kind))] * 2
    places += [
        (event["data"][name], names)
        for name, names in INSIDE.items()
        if isinstance(event["data"].get(name), dict)
    ]
    return [*places, (event, ENVELOPE)]


@st.composite
def changed_events(draw: st.DrawFn) -> dict[str, Any]:
    """A valid example with one or two attributes changed, added or taken away. More, and one would hide another."""
    event = deepcopy(
        draw(st.sampled_from(sorted(VALID)).flatmap(lambda shape: st.sampled_from(VALID[shape])))
    )
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        attributes, names = draw(st.sampled_from(_places(event)))
        name = draw(st.sampled_from(sorted(names)))
        _set(attributes, name, draw(_values(name)))
    return signed(event, "example", COMMAND_KEYS["example"]) if "keyid" in event else event


def _set(attributes: dict[str, Any], name: str, value: object) -> None:
    if value is MISSING:
        attributes.pop(name, None)
    else:
        attributes[name] = value


def model_accepts(event: dict[str, Any]) -> bool:
    signed_by = PUBLICATION if event["type"] in PUBLISHED else ACCOUNT_COMMAND
    adapter = signed_by if "keyid" in event else USAGE_EVENT
    try:
        adapter.validate_json(json.dumps(event))
    except ValidationError:
        return False
    return True


@settings(
    max_examples=max(2000, settings().max_examples)
)  # 6 s; a tenth of it misses an off-by-one of most bounds.
@given(changed_events())
def test_core_and_model_accept_the_same_events(event: dict[str, Any]) -> None:
    answer = parsed(event_record(event))
    assert (not isinstance(answer, Invalid)) == model_accepts(event), answer
