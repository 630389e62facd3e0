"""Everything that producers get wrong: each function makes one record that must become a dead letter."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from pipeline.load.record import STRUCTURED, CommandKey, LoadRecord, command, instant

DAY_MS: Final = 86_400_000
OVERSIZE_BYTES: Final = 300_000
"""Above the default of `RuleSettings.event_bytes_max`, below what a broker takes."""


class Victim(NamedTuple):
    """The event that is about to be spoiled."""

    account: str
    event_id: str
    time_ms: int


def spoiled(victim: Victim, kind: int) -> LoadRecord:
    """A record of one of the kinds, chosen by number so that every kind has its turn."""
    return KINDS[kind % len(KINDS)](victim)


def _event(victim: Victim) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": victim.event_id,
        "source": "//services/image-generation",
        "type": "org.apimage.usage.image_generation.v1",
        "subject": victim.account,
        "time": instant(victim.time_ms),
        "data": {"quality": "medium", "width": 1024, "height": 1024, "images": 1},
    }


def _record(victim: Victim, value: bytes) -> LoadRecord:
    return LoadRecord(victim.account.encode(), value, STRUCTURED)


def _with(**attributes: object) -> Callable[[Victim], LoadRecord]:
    return lambda victim: _record(victim, orjson.dumps({**_event(victim), **attributes}))


def _without(name: str) -> Callable[[Victim], LoadRecord]:
    def make(victim: Victim) -> LoadRecord:
        return _record(victim, orjson.dumps({k: v for k, v in _event(victim).items() if k != name}))

    return make


def _with_data(**attributes: object) -> Callable[[Victim], LoadRecord]:
    def make(victim: Victim) -> LoadRecord:
        event = _event(victim)
        return _record(victim, orjson.dumps({**event, "data": {**event["data"], **attributes}}))

    return make


def _of_service(service: str, data: dict[str, Any]) -> Callable[[Victim], LoadRecord]:
    return _with(type=f"org.apimage.usage.{service}.v1", data=data)


def _with_bytes(old: bytes, new: bytes) -> Callable[[Victim], LoadRecord]:
    def make(victim: Victim) -> LoadRecord:
        value = orjson.dumps(_event(victim))
        assert old in value
        return _record(victim, value.replace(old, new, 1))

    return make


def _at(distance_ms: int) -> Callable[[Victim], LoadRecord]:
    def make(victim: Victim) -> LoadRecord:
        return _record(
            victim, orjson.dumps({**_event(victim), "time": instant(victim.time_ms + distance_ms)})
        )

    return make


def _unknown_account(victim: Victim) -> LoadRecord:
    return _with()(victim._replace(account=f"never-opened-{victim.account}"))


def _without_key(victim: Victim) -> LoadRecord:
    return _with()(victim)._replace(key=None)


def _foreign_key(victim: Victim) -> LoadRecord:
    return _with()(victim)._replace(key=b"somebody-else")


def _unsigned(victim: Victim) -> LoadRecord:
    event = {**_event(victim), "type": "org.apimage.account.grant.v1"}
    data = {"grant_id": victim.event_id, "kind": "goodwill", "credits": "1000000"}
    return _record(victim, orjson.dumps({**event, "data": data}))


def _wrongly_signed(victim: Victim) -> LoadRecord:
    thief = CommandKey(key_id="stolen", secret=b"not the secret that the worker holds")
    data = {"grant_id": victim.event_id, "kind": "goodwill", "credits": "1000000"}
    return command(thief, "grant", victim.account, id=victim.event_id, time_ms=victim.time_ms, data=data)


KINDS: Final[tuple[Callable[[Victim], LoadRecord], ...]] = (
    lambda victim: _record(victim, b""),
    lambda victim: _record(victim, orjson.dumps(_event(victim))[:-9]),
    lambda victim: _record(victim, b'["not", "an", "object"]'),
    lambda victim: _record(victim, b"\xff\xfe not utf-8"),
    _with_bytes(b'"medium"', b'"m\xe9dium"'),
    _with_bytes(b'"images":1', b'"images":NaN'),
    _with_bytes(b'"images":1', b'"images":1e400'),
    _with_bytes(b'"images":1', b'"images":99999999999999999999999'),
    _with_data(images=True),
    _with_data(images="1"),
    _with_data(images=0),
    _with_data(images=-3),
    _with_data(images=2.0),
    _with_data(images=10_001),
    _with_data(images=None),
    _with_data(width=0),
    _with_data(height=100_001),
    _with_data(width=False),
    _with_data(quality="ultra"),
    _with_data(channel="fax"),
    _with_data(channel=["web"]),
    _with_data(quality={"is": "high"}),
    _with_bytes(b'"images":1', b'"images":1,"note":' + b"[" * 50_000 + b"]" * 50_000),
    _with_data(transparent_background=1),
    _with(data=None),
    _with(data=[]),
    _with(data={}),
    _with(specversion="0.3"),
    _with(specversion=1.0),
    _with(id=""),
    _with(id=17),
    _with(id="x" * 257),
    _with(source=""),
    _with(time="yesterday"),
    _with(time=1_700_000_000),
    _with(subject=""),
    _with(subject=None),
    _with(type="org.apimage.usage.image_painting.v1"),
    _with(type="org.apimage.usage.image_generation.v2"),
    _with(type="com.example.other"),
    _with(type=["org.apimage.usage.image_generation.v1"]),
    _without("specversion"),
    _without("id"),
    _without("source"),
    _without("type"),
    _without("subject"),
    _without("time"),
    _without("data"),
    _of_service("upscaling", {"input_width": 512, "input_height": 512}),
    _of_service("upscaling", {"input_width": 512, "input_height": 512, "scale": 0}),
    _of_service("upscaling", {"input_width": 512, "input_height": 512, "scale": 64.5}),
    _of_service("upscaling", {"input_width": 512, "input_height": 512, "scale": 1.0005}),
    _of_service("post_processing", {"output_width": 512}),
    _of_service("image_analysis", {"languages": "en"}),
    _of_service("background_removal", {"format": 4}),
    _at(-40 * DAY_MS),
    _at(-4 * DAY_MS),
    _at(DAY_MS),
    _unknown_account,
    _without_key,
    _foreign_key,
    _unsigned,
    _wrongly_signed,
    _with_data(note="x" * OVERSIZE_BYTES),
)
