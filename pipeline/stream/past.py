"""Reads the metered records that commands name: the only thing that a batch needs from the past.

A command says where on the topic its record stands, which is looked at first. What it says may be wrong, or have become
so in a log that was folded again: then the record is searched for by the place of its usage in the log, in whose order
they stand. So the answer depends on the log alone, as in a re-run without Kafka.
"""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from pipeline.domain.commands import RecordPlace
from pipeline.kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
    admin,
    consumer,
    topic_name,
    watermarks,
)
from pipeline.settings import Settings
from schemas.topics import METERED_RECORDS

READ_SECONDS_MAX: Final = 20
"""For one look; then the broker is too slow, and the process ends."""
END_WAIT_MS: Final = 1
"""How long the broker holds a fetch that finds nothing."""
FETCH_BYTES: Final = 16_384
"""One record is looked at, and then another one elsewhere: what a fetch brings beside it is thrown away."""
POLL_SECONDS: Final = 0.2


class _Found(NamedTuple):
    offset: int
    """On the topic."""
    event_offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class _Records:
    """The committed metered records of one partition, in [low, high)."""

    reader: Consumer
    topic: str
    partition: int
    low: int
    high: int

    def of(self, place: RecordPlace) -> bytes | None:
        """The record of the usage that a command names."""
        if self.low <= place.offset < self.high:
            there = self._first_from(place.offset)
            if there is not None and there.event_offset == place.event_offset:
                return there.value
        return self._searched(place.event_offset)

    def _searched(self, event_offset: int) -> bytes | None:
        """By halves: some thirty looks in a thousand million records."""
        low, high = self.low, self.high
        while low < high:
            middle = (low + high) // 2
            found = self._first_from(middle)
            if found is not None and found.event_offset == event_offset:
                return found.value
            if found is None or found.event_offset > event_offset:
                high = middle
            else:
                low = found.offset + 1
        return None

    def _first_from(self, offset: int) -> _Found | None:
        """The first record at an offset or after it; None where only markers and aborted records are left."""
        place = TopicPartition(self.topic, self.partition, offset)
        self.reader.assign([place])
        deadline = time.monotonic() + READ_SECONDS_MAX
        while time.monotonic() < deadline:
            message = self.reader.poll(POLL_SECONDS)
            if message is None:
                continue
            error = message.error()
            if error is None:
                value, found_at = message.value() or b"", message.offset()
                assert found_at is not None, "a record that was read has an offset"
                return _Found(found_at, orjson.loads(value)["offset"], value)
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                return None
            raise KafkaException(error)
        raise TimeoutError(f"expected a record or the end after {place} within {READ_SECONDS_MAX} s")


def read_past(settings: Settings, partition: int, places: Iterable[RecordPlace]) -> dict[int, bytes]:
    """The records that are there, by the offsets of their usage in the log. Blocks; raises TimeoutError."""
    topic = topic_name(settings.kafka, METERED_RECORDS)
    options: dict[str, Any] = {
        "enable.partition.eof": True,
        "fetch.wait.max.ms": END_WAIT_MS,
        "fetch.message.max.bytes": FETCH_BYTES,
    }
    found: dict[int, bytes] = {}
    with closing(consumer(settings.kafka, **options)) as reader:
        records = _Records(
            reader, topic, partition, *_bounds(settings, reader, TopicPartition(topic, partition))
        )
        for place in dict.fromkeys(places):
            if place.partition == partition and place.event_offset not in found:
                value = records.of(place)
                if value is not None:
                    found[place.event_offset] = value
    return found


def _bounds(settings: Settings, reader: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The first offset and the one after the last that is committed. A leader that moves is asked again."""
    deadline, asker = time.monotonic() + READ_SECONDS_MAX, admin(settings.kafka)
    while True:
        try:
            return watermarks(reader, asker, place, timeout_seconds=READ_SECONDS_MAX)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
