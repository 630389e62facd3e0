"""Reading committed records of one topic partition, from its start to where it ends now."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeVar

import orjson

from pipeline.kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    drain,
    list_offsets,
    offsets_at,
    topic_name,
    watermarks,
)
from pipeline.settings import KafkaSettings

Answer = TypeVar("Answer")
OFFSET_BEGINNING: Final = -2
"""librdkafka's number for it."""
READ_RECORDS: Final = 1000
"""Taken from the client at a time."""
READ_WAIT_SECONDS: Final = 0.05
"""For a record or the end, at a time."""
LEADER_WAIT_SECONDS_MAX: Final = 5
"""A broker that has just started, or a leader that moves, is asked again for this long."""
LEADER_POLL_SECONDS: Final = 0.1
READ_STALL_SECONDS_MAX: Final = 30
"""Without a record and without the end for this long, the broker is given up."""


READ_AHEAD_BYTES: Final = 67_108_864
"""Of a partition that is read whole: what librdkafka holds before it is taken, one fetch more at most."""
FETCHES_AHEAD: Final = 8
"""What is read ahead comes by so many fetches."""

NEWEST_OFFSETS: Final = 16
"""First guess of how far from its end a topic has the newest value of a key that every transaction writes."""
TAIL_OFFSETS: Final = 500
"""First guess of how far the last record may stand before the end: markers of transactions have offsets too."""


class Log:
    """Reads one partition after the other with one client: opening one for each would take most of the time.

    Only one reading goes on at a time; beginning another ends it.
    """

    def __init__(self, kafka: KafkaSettings, *, read_ahead_bytes: int = READ_AHEAD_BYTES) -> None:
        self._kafka = kafka
        self._admin = admin(kafka)
        self._reader: Consumer = consumer(
            kafka,
            group_id="reconcile",
            **{
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": read_ahead_bytes // 1024,
                # One partition at a time: all of a fetch is its.
                "max.partition.fetch.bytes": read_ahead_bytes // FETCHES_AHEAD,
                # The end of a partition is known when a fetch finds nothing, which waits this long.
                "fetch.wait.max.ms": 10,
            },
        )

    def close(self) -> None:
        self._reader.close()

    def start_of(self, topic: str, partition: int) -> int:
        """The first offset that the broker still holds."""
        return self.bounds(topic, partition)[0]

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the one after the last that is committed."""
        where = TopicPartition(topic_name(self._kafka, topic), partition)
        return self._patiently(
            lambda: watermarks(self._reader, self._admin, where, timeout_seconds=READ_STALL_SECONDS_MAX)
        )

    def starts_of(self, topics: Sequence[str], partition: int) -> dict[str, int]:
        """As `start_of`, of several topics in one question."""
        return self._list_offsets(topics, partition, "earliest")

    def bounds_of(self, topics: Sequence[str], partition: int) -> dict[str, tuple[int, int]]:
        """As `bounds`, of several topics in two questions."""
        starts, ends = (self._list_offsets(topics, partition, which) for which in ("earliest", "latest"))
        return {topic: (starts[topic], ends[topic]) for topic in topics}

    def _list_offsets(
        self, topics: Sequence[str], partition: int, which: Literal["earliest", "latest"]
    ) -> dict[str, int]:
        asked = {topic: topic_name(self._kafka, topic) for topic in topics}
        places = [TopicPartition(name, partition) for name in asked.values()]
        found = self._patiently(
            lambda: list_offsets(self._admin, places, which, timeout_seconds=READ_STALL_SECONDS_MAX)
        )
        return {topic: found[name, partition] for topic, name in asked.items()}

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What a broker answers at last that has just started, or whose leaders move. Raises KafkaException."""
        deadline = time.monotonic() + LEADER_WAIT_SECONDS_MAX
        while True:
            try:
                return ask()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LEADER_POLL_SECONDS)

    def offset_at(self, topic: str, partition: int, at_ms: int, end: int) -> int:
        """The first offset whose record has this time or a later one; `end` where none has."""
        return self.offsets_at([topic], partition, at_ms).get(topic, end)

    def offsets_at(self, topics: Sequence[str], partition: int, at_ms: int) -> dict[str, int]:
        """As `offset_at`, of several topics in one question, without those that have none."""
        asked = {topic_name(self._kafka, topic): topic for topic in topics}
        places = [TopicPartition(name, partition, at_ms) for name in asked]
        found = offsets_at(self._reader, self._admin, places, timeout_seconds=READ_STALL_SECONDS_MAX)
        return {asked[name]: offset for (name, _), offset in found.items()}

    def first(self, topic: str, partition: int, start: int = OFFSET_BEGINNING) -> Message | None:
        """The first committed record from an offset on; None where none is there now."""
        return next(self.messages(topic, partition, start=start), None)

    def newest(self, topic: str, partition: int, key: bytes) -> bytes | None:
        """The last value of a key, read from the end backwards; None where there is none."""
        low, high = self.bounds(topic, partition)
        back = NEWEST_OFFSETS
        while True:
            start = max(low, high - back)
            values = [
                message.value()
                for message in self.messages(topic, partition, start=start)
                if message.key() == key
            ]
            if values or start == low:
                return values[-1] if values else None
            back *= 16

    def messages(self, topic: str, partition: int, *, start: int = OFFSET_BEGINNING) -> Iterator[Message]:
        """All committed records up to the end at the time of reading, in order; without those that retention takes
        away meanwhile."""
        low, high = self.bounds(topic, partition)
        if max(low, start) >= high:
            return  # Asking costs a millisecond, waiting for the end of an empty partition a hundred.
        place = TopicPartition(topic_name(self._kafka, topic), partition, max(low, start))
        self._reader.assign([place])
        stalled_at = time.monotonic() + READ_STALL_SECONDS_MAX
        while True:
            batch = drain(self._reader, READ_RECORDS, READ_WAIT_SECONDS)
            if batch:
                stalled_at = time.monotonic() + READ_STALL_SECONDS_MAX
            elif time.monotonic() > stalled_at:
                raise TimeoutError(
                    f"expected records or the end of {topic} partition {partition} within "
                    f"{READ_STALL_SECONDS_MAX} s, got neither"
                )
            for message in batch:
                error = message.error()
                if error is None:
                    place.offset = (message.offset() or 0) + 1
                    yield message
                elif self._is_end(error, topic, place):
                    return

    def _is_end(self, error: KafkaError, topic: str, place: TopicPartition) -> bool:
        """Whether it is the end. What retention has taken away is stepped over. Raises KafkaException for all else."""
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
            return True
        low = self.start_of(topic, place.partition)
        if error.code() != KafkaError._AUTO_OFFSET_RESET or place.offset >= low:  # noqa: SLF001
            raise KafkaException(error)
        place.offset = low
        self._reader.assign([place])
        return False

    def records(self, topic: str, partition: int, *, before: int) -> Iterator[dict[str, Any]]:
        """Our own JSON records whose cause stands before the input offset `before`."""
        for message in self.messages(topic, partition):
            record: dict[str, Any] = orjson.loads(message.value() or b"{}")
            if record["offset"] < before:
                yield record

    def last_cause(self, topic: str, partition: int, *, before: int) -> int:
        """The input offset of the last record whose cause stands before `before`; -1 if there is none."""
        low, high = self.bounds(topic, partition)
        back = TAIL_OFFSETS
        while True:
            start = max(low, high - back)
            values = (message.value() or b"{}" for message in self.messages(topic, partition, start=start))
            offsets = [offset for value in values if (offset := int(orjson.loads(value)["offset"])) < before]
            if offsets or start == low:
                return max(offsets, default=-1)
            back *= 8
