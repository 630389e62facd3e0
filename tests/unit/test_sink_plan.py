"""Where blocks are cut: at a limit, at a month, never between reading and reading again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sink.plan import (
    GATHER_SECONDS,
    BlockLimits,
    Buffer,
    block_token,
    cycle_seconds,
    is_covered,
    is_due,
    month_of,
    next_plan,
    settled,
)
from schemas.sink_plan import PlannedRange, SinkPlan

LIMITS = BlockLimits(rows_max=3, bytes_max=100)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


NOVEMBER, DECEMBER = ms("2026-11-30T23:59:59.999"), ms("2026-12-01T00:00:00.000")


def buffer(*rows: tuple[int, int, bytes | None], first: int = 0) -> Buffer:
    made = Buffer(first)
    for offset, timestamp_ms, value in rows:
        made.add(offset, timestamp_ms, value)
    return made


def test_a_block_takes_all_that_was_read_when_no_limit_is_reached() -> None:
    read = buffer((0, NOVEMBER, b"a"), (2, NOVEMBER, b"b"))
    assert read.cut(LIMITS) == 3
    assert not read.is_full(LIMITS)
    assert read.take(3) == [b"a", b"b"]
    assert (read.first, read.bytes_held, len(read.rows)) == (3, 0, 0)


@pytest.mark.parametrize(
    ("waiting_seconds", "seconds_since_cut", "due"),
    [
        (GATHER_SECONDS / 2, 60, False),
        (GATHER_SECONDS, 60, True),
        (GATHER_SECONDS, 0.4, False),
        (0.4, 0.5, True),
    ],
    ids=["half a transaction", "after a rest", "in a stream", "in a stream, as old as may be"],
)
def test_when_a_block_is_due_that_is_not_full(
    waiting_seconds: float, seconds_since_cut: float, *, due: bool
) -> None:
    assert is_due(waiting_seconds, seconds_since_cut, age_seconds_max=0.5) is due


@pytest.mark.parametrize(
    ("worked_seconds", "cycle"),
    [(0.0, 0.5), (0.1, 0.5), (0.2, 1.0), (0.5, 2.0), (60.0, 2.0)],
    ids=["nothing stored yet", "a fifth of the time", "slow", "as rare as may be", "after an outage"],
)
def test_blocks_become_rarer_when_storing_one_takes_long(worked_seconds: float, cycle: float) -> None:
    assert cycle_seconds(0.5, worked_seconds) == pytest.approx(cycle)


def test_a_short_age_leaves_no_time_to_gather() -> None:
    assert is_due(0.02, 0.02, age_seconds_max=0.02)


def test_a_block_ends_before_the_row_that_would_be_one_too_many() -> None:
    read = buffer(*((offset, NOVEMBER, b"x") for offset in (10, 11, 13, 17)), first=10)
    assert read.is_full(LIMITS)
    assert read.cut(LIMITS) == 17
    assert read.take(17) == [b"x"] * 3
    assert [row.offset for row in read.rows] == [17]


def test_a_block_ends_before_the_row_that_would_be_too_large() -> None:
    read = buffer((0, NOVEMBER, b"x" * 60), (1, NOVEMBER, b"x" * 60))
    assert read.is_full(LIMITS)
    assert read.cut(LIMITS) == 1


def test_a_row_larger_than_the_limit_is_a_block_of_its_own() -> None:
    read = buffer((0, NOVEMBER, b"x" * 500), (1, NOVEMBER, b"y"))
    assert read.cut(LIMITS) == 1
    assert read.take(1) == [b"x" * 500]


def test_a_block_never_spans_two_months() -> None:
    read = buffer((0, NOVEMBER, b"a"), (1, DECEMBER, b"b"))
    assert read.is_full(LIMITS)
    assert read.cut(LIMITS) == 1
    read.take(1)
    assert read.cut(LIMITS) == 2


def test_markers_after_the_last_record_belong_to_the_block() -> None:
    read = buffer((0, NOVEMBER, b"a"))
    read.reach_end(2)
    assert read.cut(LIMITS) == 2
    assert read.take(2) == [b"a"]
    assert read.first == 2


def test_a_tombstone_is_read_and_becomes_no_row() -> None:
    read = buffer((0, NOVEMBER, b"a"), (1, NOVEMBER, None))
    assert read.cut(LIMITS) == 2
    assert read.take(2) == [b"a"]


def test_offsets_never_go_back() -> None:
    read = buffer((5, NOVEMBER, b"a"), first=5)
    with pytest.raises(AssertionError, match="expected an offset from 6 on, got 5"):
        read.add(5, NOVEMBER, b"a")


def test_a_plan_names_the_next_range_of_every_topic_the_idle_ones_too() -> None:
    buffers = {"m": buffer((4, NOVEMBER, b"a"), first=3), "d": Buffer(7)}
    plan = next_plan(1, buffers, {"m": "id-m", "d": "id-d"}, LIMITS)
    assert plan == SinkPlan(
        partition=1,
        mapping=1,
        inserted=False,
        ranges=[
            PlannedRange(topic="m", topic_id="id-m", first=3, end=5),
            PlannedRange(topic="d", topic_id="id-d", first=7, end=7),
        ],
    )
    assert block_token(1, plan.ranges[0], plan.mapping) == "m@id-m/1/3-5/v1"


def test_a_settled_plan_says_where_to_go_on() -> None:
    read = Buffer(3)
    read.reach_end(9)
    plan = settled(0, {"m": read}, {"m": "id"})
    assert plan.inserted
    assert plan.ranges == [PlannedRange(topic="m", topic_id="id", first=9, end=9)]


@pytest.mark.parametrize(
    ("read_to", "covered"), [(4, False), (5, True), (6, True)], ids=["short", "exact", "past a marker"]
)
def test_a_plan_is_covered_when_everything_below_its_end_was_read(read_to: int, covered: bool) -> None:
    read = Buffer(0)
    read.reach_end(read_to)
    plan = SinkPlan(
        partition=0,
        mapping=1,
        inserted=False,
        ranges=[PlannedRange(topic="m", topic_id="id", first=0, end=5)],
    )
    assert is_covered(plan, {"m": read}) is covered


def test_a_month_is_half_open_and_in_utc() -> None:
    assert month_of(NOVEMBER) == (ms("2026-11-01"), DECEMBER)
    assert month_of(DECEMBER) == (DECEMBER, ms("2027-01-01"))


@given(
    gaps=st.lists(st.integers(0, 3), max_size=30),
    month_at=st.integers(0, 30),
    rows_max=st.integers(1, 7),
    bytes_max=st.integers(1, 40),
)
def test_blocks_taken_one_after_another_are_the_records_in_order_and_keep_the_limits(
    gaps: list[int], month_at: int, rows_max: int, bytes_max: int
) -> None:
    limits = BlockLimits(rows_max=rows_max, bytes_max=bytes_max)
    read, offset = Buffer(0), 0
    values = [b"v" * (number % 5 + 1) for number in range(len(gaps))]
    for number, gap in enumerate(gaps):
        offset += gap
        read.add(offset, DECEMBER if number >= month_at else NOVEMBER, values[number])
        offset += 1
    blocks: list[list[bytes]] = []
    while read.rows:
        blocks.append(read.take(read.cut(limits)))
    assert [value for block in blocks for value in block] == values
    assert all(1 <= len(block) <= rows_max for block in blocks)
    assert all(len(block) == 1 or sum(map(len, block)) <= bytes_max for block in blocks)
    assert read.bytes_held == 0
