"""Decides where blocks are cut, and nothing else: pure, no clock, no client.

A block is a range of offsets of one topic and partition within one month, because the tables are partitioned by
month and a block in two partitions is two parts with two fates. The range is everything: once it is planned,
the same records are inserted under the same token, whoever does it and however often.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from schemas.sink_plan import PlannedRange, SinkPlan

GATHER_SECONDS: Final = 0.05
"""From a block's first record to its cut: what one transaction wrote is read from several topics."""
WORKING_SHARE_MAX: Final = 0.2
"""Of the time, that a partition's plans and inserts may take before its blocks become larger and rarer: half of what
ClickHouse does for a block of 700 rows it does for any block."""
REST_FACTOR_MAX: Final = 4
"""How much longer than usual a record may wait for that."""
MAPPING_VERSION: Final = 1
"""Raise it when the same record becomes another row: old blocks can then be inserted anew beside a rebuild."""

_MS: Final = timedelta(milliseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """A record as far as the sink looks into it."""

    offset: int
    timestamp_ms: int
    value: bytes


def is_due(waiting_seconds: float, seconds_since_cut: float, age_seconds_max: float) -> bool:
    """Whether a block is cut that is not full. What comes after a rest is stored at once, a stream of records in blocks
    that are worth the parts that ClickHouse makes of each."""
    is_gathered = waiting_seconds >= min(GATHER_SECONDS, age_seconds_max)
    return is_gathered and seconds_since_cut >= age_seconds_max


def cycle_seconds(age_seconds_max: float, worked_seconds: float) -> float:
    """From one cut to the next, after a plan and its inserts that took so long. Long on full processors, which are
    relieved by rarer blocks."""
    return max(age_seconds_max, min(worked_seconds / WORKING_SHARE_MAX, REST_FACTOR_MAX * age_seconds_max))


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLimits:
    rows_max: int
    bytes_max: int


class Buffer:
    """What was read of one topic and partition and not yet taken, in the order of its offsets.

    Offsets have gaps: transaction markers, aborted transactions, compacted records. So `read_to` says how far
    the topic has been read, whether or not a record stands there.
    """

    __slots__ = ("at_end", "bytes_held", "first", "read_to", "rows")

    def __init__(self, first: int) -> None:
        self.first = first
        self.read_to = first
        self.at_end = False
        self.rows: deque[Row] = deque()
        self.bytes_held = 0

    def add(self, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        """The next record. One without a value (a tombstone) is read, and becomes no row."""
        assert offset >= self.read_to, f"expected an offset from {self.read_to} on, got {offset}"
        self.read_to = offset + 1
        self.at_end = False
        if value is not None:
            self.rows.append(Row(offset, timestamp_ms, value))
            self.bytes_held += len(value)

    def reach_end(self, offset: int) -> None:
        """Everything below `offset` has been read, and nothing more is there now."""
        self.read_to = max(self.read_to, offset)
        self.at_end = True

    def cut(self, limits: BlockLimits) -> int:
        """Where the next block ends: at a limit, at the month's end, or at what has been read."""
        if not self.rows:
            return self.read_to
        starts_ms, ends_ms = month_of(self.rows[0].timestamp_ms)
        size = 0
        for count, row in enumerate(self.rows):
            size += len(row.value)
            full = count > 0 and (count >= limits.rows_max or size > limits.bytes_max)
            if full or not starts_ms <= row.timestamp_ms < ends_ms:
                return row.offset
        return self.read_to

    def is_full(self, limits: BlockLimits) -> bool:
        """Whether waiting for more records would not make the next block any larger."""
        if len(self.rows) >= limits.rows_max or self.bytes_held >= limits.bytes_max:
            return True
        return len(self.rows) > 1 and month_of(self.rows[0].timestamp_ms) != month_of(
            self.rows[-1].timestamp_ms
        )

    def take(self, end: int) -> list[bytes]:
        """The values below `end`, in order; they leave the buffer."""
        assert self.first <= end <= self.read_to, f"expected {self.first} <= {end} <= {self.read_to}"
        taken: list[bytes] = []
        while self.rows and self.rows[0].offset < end:
            value = self.rows.popleft().value
            self.bytes_held -= len(value)
            taken.append(value)
        self.first = end
        return taken


def next_plan(
    partition: int,
    buffers: Mapping[str, Buffer],
    topic_ids: Mapping[str, str],
    limits: BlockLimits,
    *,
    fill: str = "",
) -> SinkPlan:
    """The next range of every topic."""
    ranges = [
        PlannedRange(topic=topic, topic_id=topic_ids[topic], first=buffer.first, end=buffer.cut(limits))
        for topic, buffer in buffers.items()
    ]
    return SinkPlan(partition=partition, mapping=MAPPING_VERSION, inserted=False, ranges=ranges, fill=fill)


def settled(
    partition: int, buffers: Mapping[str, Buffer], topic_ids: Mapping[str, str], *, fill: str = ""
) -> SinkPlan:
    """Says that everything read so far is stored: the next owner inserts nothing again, however late it comes."""
    ranges = [
        PlannedRange(topic=topic, topic_id=topic_ids[topic], first=buffer.read_to, end=buffer.read_to)
        for topic, buffer in buffers.items()
    ]
    return SinkPlan(partition=partition, mapping=MAPPING_VERSION, inserted=True, ranges=ranges, fill=fill)


def is_covered(plan: SinkPlan, buffers: Mapping[str, Buffer]) -> bool:
    """Whether all that the plan names has been read."""
    return all(buffers[planned.topic].read_to >= planned.end for planned in plan.ranges)


def block_token(partition: int, planned: PlannedRange, mapping: int) -> str:
    """What the tables remember a block by."""
    return f"{planned.topic}@{planned.topic_id}/{partition}/{planned.first}-{planned.end}/v{mapping}"


def month_of(timestamp_ms: int) -> tuple[int, int]:
    """The month, in UTC and half open, as milliseconds."""
    first = (_EPOCH + timestamp_ms * _MS).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return (first - _EPOCH) // _MS, (following - _EPOCH) // _MS
