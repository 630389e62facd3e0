"""Bad input: each kind has one reason and one pointer, the first that applies, and none disturbs its neighbours.

All single attributes stand in `schemas/examples/` and are tested there; here is the order of the checks, and what has
no JSON. Tables are in the order of precedence: each row is wrong in its own way and in all ways below it.
"""

import json
from typing import Any

import pytest

from pipeline.domain.usage import UsageEvent
from pipeline.settings import RuleSettings
from pipeline.validate import Invalid, parse
from tests.builders import KEY_ID, NOON, SECRET, Partition, Record, command, open_account, record, usage

BYTES_MAX = RuleSettings().event_bytes_max
HOUR_MS = 3_600_000


def read(value: bytes | None, key: bytes | None = b"acct", *headers: tuple[str, bytes]) -> tuple[str, str]:
    """Reason and pointer of a record; both empty if it is valid."""
    answer = parse(
        Record(0, NOON, key, value, headers), event_bytes_max=BYTES_MAX, command_keys={KEY_ID: SECRET}
    )
    return (str(answer.reason), answer.pointer) if isinstance(answer, Invalid) else ("", "")


def text(event: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**event, **changes}).encode()


GOOD = text(usage())
HUGE = GOOD[:-1] + b', "note": "' + b"x" * 1_000_000 + b'"}'
DATA = b'"data": {"quality": "medium", '


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "malformed_json"),
        (HUGE, "too_large"),
        (b"\xff" * (BYTES_MAX + 1), "too_large"),
        (b"\xff" * BYTES_MAX, "malformed_json"),
        (b"", "malformed_json"),
        (b" \n", "malformed_json"),
        (GOOD[:-1], "malformed_json"),
        (GOOD + b",", "malformed_json"),
        (GOOD + GOOD, "malformed_json"),
        (GOOD.replace(b"medium", b"m\xe9dium"), "malformed_json"),
        (GOOD.replace(b"medium", b"\xed\xa0\x80"), "malformed_json"),
        (GOOD.replace(b"medium", b"\\ud800"), "malformed_json"),
        (GOOD.replace(b"medium", b"\\udc00\\ud800"), "malformed_json"),
        (GOOD.replace(b"medium", b"a\x00b"), "malformed_json"),
        (GOOD.replace(b"medium", b"a\nb"), "malformed_json"),
        (GOOD.replace(b"1024", b"NaN"), "malformed_json"),
        (GOOD.replace(b"1024", b"Infinity"), "malformed_json"),
        (GOOD.replace(b"1024", b"1e400"), "malformed_json"),
        (GOOD.replace(b"1024", b"01024"), "malformed_json"),
        (GOOD.replace(b"1024", b"0x400"), "malformed_json"),
        (b"[" * 10_000 + b"]" * 10_000, "malformed_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "malformed_json"),
        (b"[" + GOOD + b"]", "malformed_json"),
        (b"null", "malformed_json"),
        (b"17", "malformed_json"),
        (b'"text"', "malformed_json"),
        (b"{}", "invalid_envelope"),
        (GOOD, ""),
    ],
)
def test_bytes_that_are_no_json_object(value: bytes | None, reason: str) -> None:
    assert read(value)[0] == reason


# Wrong in every way; row by row, what the checks find first is put right.
ALL_WRONG: dict[str, Any] = {
    "type": 1,
    "specversion": "0.3",
    "id": "",
    "source": "\x00",
    "subject": "a b",
    "time": "noon",
    "data": [],
}
REPAIRS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_envelope", "/type"),
    ({"type": "org.apimage.usage.painting.v1"}, "unknown_type", "/type"),
    ({"type": "org.apimage.usage.image_generation.v1"}, "invalid_envelope", "/specversion"),
    ({"specversion": "1.0"}, "invalid_envelope", "/id"),
    ({"id": "e"}, "invalid_envelope", "/source"),
    ({"source": "/s"}, "invalid_envelope", "/subject"),
    ({"subject": "other"}, "invalid_envelope", "/time"),
    ({"time": "2026-11-23T12:00:00Z"}, "key_mismatch", "/subject"),
    ({"subject": "acct"}, "invalid_data", "/data"),
    ({"data": {"images": True, "channel": 1}}, "invalid_data", "/data/images"),
    ({"data": {"channel": []}}, "invalid_data", "/data/channel"),
    ({"data": {}}, "invalid_data", "/data/quality"),
    ({"data": {"quality": "low", "height": -1}}, "invalid_data", "/data/width"),
    ({"data": {"quality": "low", "width": 1, "height": 2.0}}, "invalid_data", "/data/height"),
    ({"data": {"quality": "low", "width": 1, "height": 2}}, "", ""),
]


@pytest.mark.parametrize("row", range(len(REPAIRS)), ids=[f"{reason}{at}" for _, reason, at in REPAIRS])
def test_the_first_fault_of_a_usage_event_names_it(row: int) -> None:
    event = dict(ALL_WRONG)
    for repair, _, _ in REPAIRS[: row + 1]:
        event |= repair
    assert read(text(event)) == REPAIRS[row][1:]


SIGNED = command("open", {"plan": "free", "no": "such"})
FORGED = {**SIGNED, "signature": "0" * 64}


@pytest.mark.parametrize(
    ("event", "key", "reason", "pointer"),
    [
        ({**FORGED, "type": "org.apimage.account.merge.v1"}, b"x", "unknown_type", "/type"),
        ({**FORGED, "keyid": None, "time": ""}, b"x", "invalid_envelope", "/time"),
        ({**FORGED, "keyid": None}, b"x", "key_mismatch", "/subject"),
        ({**FORGED, "keyid": None}, None, "key_mismatch", "/subject"),
        ({**FORGED, "keyid": None}, b"acct", "unsigned", "/signature"),
        ({**FORGED, "signature": 7}, b"acct", "unsigned", "/signature"),
        ({**FORGED, "signature": None, "data": None}, b"acct", "unsigned", "/signature"),
        ({**FORGED, "data": None}, b"acct", "invalid_data", "/data"),
        ({**FORGED, "keyid": "stolen"}, b"acct", "bad_signature", "/keyid"),
        (FORGED, b"acct", "bad_signature", "/signature"),
        ({**SIGNED, "signature": SIGNED["signature"].upper()}, b"acct", "bad_signature", "/signature"),
        ({**SIGNED, "signature": "é" * 64}, b"acct", "bad_signature", "/signature"),
        *(
            ({**SIGNED, name: other}, b"acct", "bad_signature", "/signature")
            for name, other in (
                ("id", "c2"),
                ("source", "/others"),
                ("type", "org.apimage.account.grant.v1"),
                ("time", "2026-11-23T12:00:00.001Z"),
                ("data", {"plan": "enterprise"}),
            )
        ),
        ({**SIGNED, "subject": "other"}, b"other", "bad_signature", "/signature"),
        (SIGNED, b"acct", "invalid_data", "/data/no"),
        (command("open", {"plan": ""}), b"acct", "invalid_data", "/data/plan"),
        (command("open", {"plan": "free"}), b"acct", "", ""),
    ],
)
def test_the_first_fault_of_a_command_names_it(
    event: dict[str, Any], key: bytes | None, reason: str, pointer: str
) -> None:
    assert read(text(event), key) == (reason, pointer)


@pytest.mark.parametrize("key", [None, b"", b"other", b"acct\x00", b"\xff", b"ACCT"])
def test_the_key_is_the_subject_byte_for_byte(key: bytes | None) -> None:
    assert read(GOOD, key) == ("key_mismatch", "/subject")


def test_of_a_name_that_stands_twice_the_last_value_counts() -> None:
    # JSON leaves it open; what matters is that every reader of ours takes the same one.
    twice = text(usage()).replace(b'"width": 1024', b'"width": 1, "width": 4096')
    answer = parse(Record(0, NOON, b"acct", twice), event_bytes_max=BYTES_MAX, command_keys={})
    assert isinstance(answer, UsageEvent)
    assert answer.inputs["width"] == 4096
    assert read(twice.replace(b'"width": 4096', b'"width": 0')) == ("invalid_data", "/data/width")


@pytest.mark.parametrize(
    ("value", "headers", "reason", "pointer"),
    [
        (b'{"quality": "low"', {}, "malformed_json", ""),
        (b"{}", {"ce_id": b"\xff"}, "malformed_json", ""),
        (b"{}", {"ce_type": b"painting"}, "unknown_type", "/type"),
        (b"{}", {"ce_subject": b"other"}, "key_mismatch", "/subject"),
        (b"[]", {}, "invalid_data", "/data"),
        (b"{}", {}, "invalid_data", "/data/quality"),
        (b'{"quality": "low", "width": 1, "height": 1}', {}, "", ""),
        (GOOD, {"content-type": b"Application/CloudEvents+json", "ce_type": b"painting"}, "", ""),
    ],
)
def test_binary_mode_is_held_to_the_same_rules(
    value: bytes, headers: dict[str, bytes], reason: str, pointer: str
) -> None:
    event = usage()
    named = {f"ce_{name}": str(event[name]).encode() for name in event if name != "data"} | headers
    assert read(value, b"acct", *named.items()) == (reason, pointer)


def test_a_message_shows_enough_of_a_value_to_find_it_and_no_more() -> None:
    long = "secret " * 1000
    for event in (
        usage(event_id=long),
        usage(account=long),
        usage(quality=long),
        usage(images=long),
        usage() | {"time": long},
        usage() | {"time": "2026-13-01T00:00:00." + "0" * 9999 + "Z"},
        usage() | {"type": long},
        command("grant", {"grant_id": long}),
        command("open", {long: 1}),
    ):
        answer = parse(record(event), event_bytes_max=BYTES_MAX, command_keys={KEY_ID: SECRET})
        assert isinstance(answer, Invalid)
        assert len(answer.detail) < 400
        assert len(answer.pointer) < 100


@pytest.mark.parametrize("name", ["unknown", "input_width"])
@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        (63, ""),  # With data itself 64.
        *((levels, "invalid_data") for levels in (64, *range(248, 258), 1022)),
        (1023, "malformed_json"),
    ],
)
def test_data_that_could_not_be_written_again_is_a_dead_letter(name: str, levels: int, reason: str) -> None:
    # Kept attributes stand deeper in the record than in the event: what is read just so cannot be written.
    event = text(usage("upscaling", {"output_width": 1, "output_height": 1, name: "deep"}))
    partition = Partition()
    partition.fold(open_account())
    (*_, answer) = partition.fold(event.replace(b'"deep"', b"[" * levels + b"]" * levels))
    assert answer["reason"] == reason


@pytest.mark.parametrize(
    ("distance_ms", "reason"),
    [
        (-72 * HOUR_MS - 1, "late"),
        (-35 * 24 * HOUR_MS - 1, "too_late"),
        (-72 * HOUR_MS, ""),
        (300_000, ""),
        (300_001, "too_early"),
        (1000 * 24 * HOUR_MS, "too_early"),
    ],
)
def test_a_producers_clock_outside_the_window_is_a_dead_letter(distance_ms: int, reason: str) -> None:
    partition = Partition()
    partition.fold(open_account())
    (*_, answer) = partition.fold(usage(at=NOON + distance_ms))
    assert answer["reason"] == reason
    assert answer.get("pointer", "") == ("/time" if reason else "")


def test_bad_records_leave_their_neighbours_unharmed() -> None:
    bad = [b"", b"\xff", b"[" * 10_000, b"{}", HUGE, text(usage(images=0)), text(SIGNED)]
    partition, clean = Partition(), Partition()
    partition.fold(*bad, open_account(), *bad, usage(), *bad)
    clean.fold(open_account(), usage())
    assert partition.balance() == clean.balance() == "49"
    assert len(partition.of("dead-letters")) == 3 * len(bad)
