"""Hostile records: real events of a simulated world, each left as it is or spoiled in one of many ways.

A spoiled command is signed over what was made of it, so that its data gets past the signature and at the rules.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import orjson

from pipeline.domain.signing import sign
from tests.builders import KEY_ID, SECRET, Record
from tests.simulation.world import events

Event = dict[str, Any]
Headers = list[tuple[str, bytes | None]]
Sent = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record."""

TEXTS = (
    "", " ", "0", "-0", "1e5", "+1", "1_000", "0x10", "١", "1.0000001", "NaN", "Infinity", "null", "true", "free",
    "2026-01", "\x00", "\x7f", "\u200b", "\u202egnp", "é", "e\u0301", "😀", "\ud800", "\udfff\ud800", "a" * 257,
    "b" * 9000, "../../etc", "'; DROP TABLE metered_records; --", "{{7*7}}", "acct\n", "__cursor__",
    "2026-02-30T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "2026-11-23T12:00:60Z",
    "2026-11-23T12:00:00+14:00", "2026-11-23 12:00:00", "2026-11-23T12:00:00.123456789Z", "-2026-11-23T12:00:00Z",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 10_000, 10_001, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**400, -0.0, 0.1, 1.5, 1e-7, 5e-324,
    1e16, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
BYTES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}", b"null", b"0", b'""', b"[]", b"{}", b"{" * 2000, b"[" * 100_000,
    b"NaN", b'{"a":1,}', b"{'a':1}", b'{"type":"org.apimage.tick.v1"}', b'{"type":"org.apimage.tick.v1","type":7}',
    b'{"id":"\\ud800"}', '{"id":"ü"}'.encode("utf-16"), b'{"\\u0000":0}', b" \t\r\n", b"1" * 5000,
    b'"' + b"x" * 300_000 + b'"',
)  # fmt: skip
PIECES = (
    b"\x00",
    b"\xff",
    b"[",
    b"{",
    b"}",
    b'"',
    b",",
    b"\\",
    b"NaN",
    b"1e999",
    b"\\u0000",
    b"\\ud834",
    b":null,",
    b"-",
    b"9" * 40,
)
NAMES = (
    "id",
    "source",
    "type",
    "subject",
    "time",
    "data",
    "specversion",
    "keyid",
    "signature",
    "extra",
    "",
    "\ud800",
)
TICKS: tuple[Event, ...] = (
    {"type": "org.apimage.tick.v1"},
    {"type": "org.apimage.tick.v1", "id": None, "data": [[[]]]},
)


def records(random: Random, count: int) -> Iterator[tuple[str, Record]]:
    """A log, each record with the name of what was done to it. Append times go back now and then, as clocks do."""
    names, weights = list(SPOILERS), list(WEIGHTS.values())
    for offset, (at, event) in enumerate(events(random, count)):
        if isinstance(event, bytes):
            yield "broken", Record(offset, at, b"a0", event)
            continue
        (name,) = random.choices(names, weights)
        key, value, headers = SPOILERS[name](random, event)
        timestamp = at + random.choice([0, 0, 0, 0, 0, -1, -5000, 1])
        yield name, Record(offset, timestamp, key, value, headers)  # type: ignore[arg-type]  # its headers have values


def as_it_is(random: Random, event: Event) -> Sent:
    del random
    return _key(event), orjson.dumps(event), []


def torn(random: Random, event: Event) -> Sent:
    """Some bytes replaced, doubled or flipped."""
    value = bytearray(orjson.dumps(event))
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        start = random.randrange(len(value) + 1)
        end = min(len(value), start + random.choice([0, 1, 1, 4, 40]))
        match random.randrange(3):
            case 0:
                value[start:end] = random.choice(PIECES)
            case 1:
                value[start:start] = value[start:end]
            case _ if start < len(value):
                value[start] ^= 1 << random.randrange(8)
    return _key(event), bytes(value), []


def twisted(random: Random, event: Event) -> Sent:
    """An attribute, at any depth, replaced, added or removed."""
    return _key(event), _text(_twist(random, event)), []


def signed_anew(random: Random, event: Event) -> Sent:
    """Twisted in its data alone, and then signed: only a holder of a key can do that."""
    data = event.get("data")
    if not isinstance(data, dict):
        return as_it_is(random, event)
    return _key(event), _text(_sign(event | {"data": _twist(random, data)})), []


def doubled_keys(random: Random, event: Event) -> Sent:
    """Names that stand twice in an object, with the first, the last or none of the values that count."""
    value = _text(event)
    name = random.choice([*event, "data", "subject"])
    twice = b"{%s:%s," % (json.dumps(name).encode(), _text(_value(random, 2)))
    return _key(event), value.replace(b"{", twice, random.choice([1, 1, 2])), []


def binary(random: Random, event: Event) -> Sent:
    """Kafka's binary mode, faithful or with headers that lie, are missing, doubled or no text."""
    headers: Headers = [
        (f"ce_{name}", str(value).encode("utf-8", "replace"))
        for name, value in event.items()
        if name != "data"
    ]
    headers.append(("content-type", b"application/json"))
    for _ in range(random.choice([0, 0, 1, 2])):
        place = random.randrange(len(headers))
        name = random.choice([headers[place][0], "ce_", "ce_data", "ce_ce_id", "content-type", "traceparent"])
        text = random.choice(
            [None, b"", b"\xff", b"\x00", b"1.0", b"application/cloudevents+json", b"z" * 9000]
        )
        headers[place : place + random.choice([0, 1])] = [(name, text)]
    return _key(event), _text(event.get("data")), headers


def foreign(random: Random, event: Event) -> Sent:
    """Bytes that never were an event, under any key; or no value at all."""
    made = (random.choice(BYTES), random.randbytes(random.randrange(200)), _text(_value(random, 4)), None)
    return random.choice([_key(event), None, b"", b"\xff", b"k" * 5000]), random.choice(made), []


def misled(random: Random, event: Event) -> Sent:
    """A good event under another key."""
    return random.choice([None, b"", b"a1", b"\xff\xfe", _key(event)]), orjson.dumps(event), []


def tick(random: Random, event: Event) -> Sent:
    del event
    return random.choice([None, b"a0", b"\xff"]), _text(dict(random.choice(TICKS))), []


SPOILERS: Mapping[str, Callable[[Random, Event], Sent]] = {
    each.__name__: each
    for each in (as_it_is, torn, twisted, signed_anew, doubled_keys, binary, foreign, misled, tick)
}
WEIGHTS: Mapping[str, int] = {
    "as_it_is": 34, "torn": 14, "twisted": 14, "signed_anew": 16, "doubled_keys": 5, "binary": 8, "foreign": 5,
    "misled": 2, "tick": 2,
}  # fmt: skip


def _key(event: Event) -> bytes | None:
    subject = event.get("subject")
    return subject.encode("utf-8", "replace") if isinstance(subject, str) else None


def _twist(random: Random, whole: Event) -> Event:
    event: Event = json.loads(_text(whole))
    place: Any = event
    while random.random() < 0.6:
        inner = [
            each
            for each in (place.values() if isinstance(place, dict) else place)
            if each and isinstance(each, dict | list)
        ]
        if not inner:
            break
        place = random.choice(inner)
    if isinstance(place, list):
        place[random.randrange(len(place))] = _value(random, 3)
    elif random.random() < 0.15 and place:
        del place[random.choice(list(place))]
    else:
        place[random.choice([*place, *place, random.choice(NAMES)])] = _value(random, 3)
    return event


def _value(random: Random, depth: int) -> Any:
    match random.randrange(9):
        case 0 | 1 | 2:
            return random.choice(TEXTS)
        case 3 | 4 | 5:
            return random.choice(NUMBERS)
        case 6:
            return random.choice([None, True, False])
        case 7 if depth:
            return [_value(random, depth - 1) for _ in range(random.choice([0, 1, 3]))]
        case 8 if depth:
            return {random.choice(NAMES): _value(random, depth - 1) for _ in range(random.choice([0, 1, 3]))}
        case _:
            levels = random.choice([62, 63, 64, 250, 251, 252, 253, 254, 300])
            return json.loads("[" * levels + "]" * levels)


def _text(value: Any) -> bytes:
    """Goes deeper than orjson, beyond 64 bits, and says NaN and halves of surrogate pairs."""
    return json.dumps(value).encode()


def _sign(event: Event) -> Event:
    data = event["data"]
    try:
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # What orjson cannot say it cannot read either.
        canonical = _text(data)
    names = ("id", "source", "type", "subject", "time")
    parts = {each: event[each] for each in names if isinstance(event.get(each), str)}
    if len(parts) < len(names):
        return event
    return event | {"keyid": KEY_ID, "signature": sign(SECRET, **parts, data_json=canonical)}
