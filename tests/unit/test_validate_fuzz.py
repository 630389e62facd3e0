"""Whatever bytes come: reading never raises, and a whole batch gives every record exactly one outcome."""

import json
from collections import Counter
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import NOON, TICK, Partition, Record, issue_grant, open_account, record, usage

VALID = [
    usage(event_id="image", transparent_background=True, model="sketch-3"),
    usage("upscaling", event_id="scaled", input_width=512, input_height=512, scale=1.125),
    usage("image_analysis", event_id="languages", languages=["en"]),
    issue_grant("10.5", expires_at="2027-01-01T00:00:00Z", priority=3),
    open_account(command_id="again"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# Around our limit, and around the encoder's (254) less what a record puts around it.
DEEP = st.sampled_from([62, 63, 64, 250, 251, 252, 253, 254, 300]).map(
    lambda levels: orjson.loads(b"[" * levels + b"]" * levels)
)
PIECES = st.binary(max_size=6) | st.sampled_from(
    [b"\x00", b"\xff", b"[", b"{", b'"', b"NaN", b"1e999", b"\\u0000"]
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_id", "ce_type", "ce_specversion", "ce_subject", "content-type", "ce_", "x"]),
        st.binary(max_size=8) | st.just(b"application/cloudevents+json") | st.just(b"1.0"),
    ),
    max_size=3,
)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """A valid event with some of its bytes replaced."""
    value = orjson.dumps(draw(st.sampled_from(VALID)))
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, min(len(value), start + 40)))
    return value[:start] + draw(PIECES) + value[end:]


@st.composite
def twisted(draw: st.DrawFn) -> bytes:
    """A valid event with an attribute of the envelope or of data replaced by anything."""
    event: dict[str, Any] = orjson.loads(orjson.dumps(draw(st.sampled_from(VALID))))
    place = draw(st.sampled_from([event, event["data"]]))
    place[draw(st.sampled_from([*place, "unknown"]))] = draw(JSON | DEEP)
    return json.dumps(event).encode()  # Goes deeper than orjson, and beyond 64 bits.


VALUES = st.binary(max_size=60) | st.none() | torn() | twisted() | JSON.map(json.dumps).map(str.encode)
KEYS = st.sampled_from([b"acct", b"acct", b"acct", None, b"", b"other"]) | st.binary(max_size=4)
RECORDS = st.lists(st.tuples(KEYS, VALUES, HEADERS | st.just([])), max_size=8)


@settings(max_examples=max(300, settings().max_examples))
@given(RECORDS)
def test_every_record_has_exactly_one_outcome_whatever_it_holds(
    drawn: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]],
) -> None:
    partition = Partition()
    log = [record(open_account())]
    log += [Record(n, NOON + n, *each) for n, each in enumerate(drawn, start=1)]
    log.append(record(usage(event_id="afterwards"), offset=len(log), at=NOON + len(log)))

    folded = partition.run(log)
    partition.apply(folded)

    outcomes = Counter(
        each["offset"]
        for topic in ("metered-records", "command-results", "dead-letters")
        for each in partition.of(topic)
    )
    ticks = {each.offset for each in log if b"org.apimage.tick" in (each.value or b"")}
    assert outcomes == Counter(each.offset for each in log if each.offset not in ticks)
    assert folded.dead_letters == len(partition.of("dead-letters"))
    assert len(log) - 1 in {each["offset"] for each in partition.of("metered-records")}


def test_the_fuzz_reaches_every_kind_of_outcome() -> None:
    """A tick has none; the valid events have all but dead letters, which the fuzz is full of."""
    partition = Partition()
    said = partition.fold(open_account(), TICK, *VALID, *VALID)
    outcomes = {each["outcome"] for each in said if "outcome" in each}
    assert outcomes == {"accepted", "refused", "metered", "duplicate"}
