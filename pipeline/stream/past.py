"""Reads the metered records that commands name: the only thing that a batch needs from the past."""

import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final

from pipeline.domain.commands import RecordPlace
from pipeline.kafka import Consumer, KafkaException, TopicPartition, consumer, topic_name
from pipeline.settings import Settings
from schemas.topics import METERED_RECORDS

READ_SECONDS_MAX: Final = 20
"""For all records of one slice; then the broker is too slow, and the process ends."""
END_WAIT_MS: Final = 10
"""How long the broker holds a fetch that finds nothing."""
POLL_SECONDS: Final = 0.2


def read_past(settings: Settings, partition: int, places: Iterable[RecordPlace]) -> dict[int, bytes]:
    """The records that are there, by the offsets of their usage events. Blocks; raises TimeoutError."""
    topic = topic_name(settings.kafka, METERED_RECORDS)
    wanted = {place.offset: place.event_offset for place in places if place.partition == partition}
    options: dict[str, Any] = {"fetch.wait.max.ms": END_WAIT_MS}
    deadline = time.monotonic() + READ_SECONDS_MAX
    found: dict[int, bytes] = {}
    with closing(consumer(settings.kafka, **options)) as reader:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, partition), timeout=READ_SECONDS_MAX)
        for offset in sorted(offset for offset in wanted if low <= offset < high):
            value = _record_at(reader, TopicPartition(topic, partition, offset), high, deadline)
            if value is not None:
                found[wanted[offset]] = value
    return found


def _record_at(reader: Consumer, place: TopicPartition, high: int, deadline: float) -> bytes | None:
    """The committed record of this very offset; None where a marker or an aborted record stands."""
    reader.assign([place])
    while time.monotonic() < deadline:
        message = reader.poll(POLL_SECONDS)
        if message is None:
            if place.offset == high - 1:
                return None  # A marker is the last that is there: nothing comes after it.
            continue
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        return message.value() if message.offset() == place.offset else None
    raise TimeoutError(f"expected the record at {place} within {READ_SECONDS_MAX} s")
