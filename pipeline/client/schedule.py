"""Reads which price books and plans a running deployment has: the schedules in its cursors, and published content.

What stands here is committed, by the worker that holds the partition; a worker that is behind shows what it has read.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

from pipeline.client.publisher import QUIET
from pipeline.kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition, consumer, topic_name
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, Cursor, decode_cursor
from schemas.topics import changelog

TAIL_OFFSETS: Final = 100
"""First guess of how far the last cursor stands before the end: it is the last record of every transaction."""
READ_SECONDS_MAX: Final = 120
"""To read one partition of the changelog to its end, a million accounts at worst."""
READ_RECORDS: Final = 5000


class DeploymentReader:
    """One reader of the changelog. Close it."""

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": 10, **QUIET}
        self._consumer: Consumer = consumer(settings.kafka, **options)
        self._topic = topic_name(settings.kafka, changelog(settings.worker.app_id))
        self._partitions = range(settings.kafka.partitions)
        self._timeout_seconds = settings.client.request_timeout_seconds

    def close(self) -> None:
        self._consumer.close()

    def cursors(self) -> dict[int, Cursor | None]:
        """The newest cursor of each partition; None where no batch was ever committed."""
        return {partition: self._cursor(partition) for partition in self._partitions}

    def content(self, key: bytes) -> bytes | None:
        """A row of published content, from the partition with the least to read."""
        spans = {partition: self._bounds(partition) for partition in self._partitions}
        shortest = min(spans, key=lambda partition: spans[partition][1] - spans[partition][0])
        rows = (each.value() for each in self._messages(shortest, *spans[shortest]) if each.key() == key)
        return next(rows, None)

    def _cursor(self, partition: int) -> Cursor | None:
        low, high = self._bounds(partition)
        back = TAIL_OFFSETS
        while low < high:
            start = max(low, high - back)
            found = [
                each.value() for each in self._messages(partition, start, high) if each.key() == CURSOR_KEY
            ]
            if found:
                return decode_cursor(found[-1] or b"")
            if start == low:
                break
            back *= 8
        return None

    def _bounds(self, partition: int) -> tuple[int, int]:
        bounds = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), self._timeout_seconds
        )
        assert bounds is not None, "watermarks were asked for with a timeout: they came, or it raised"
        return bounds

    def _messages(self, partition: int, start: int, end: int) -> Iterator[Message]:
        """Committed records, to the end. Raises TimeoutError."""
        if start >= end:
            return
        self._consumer.assign([TopicPartition(self._topic, partition, start)])
        until = time.monotonic() + READ_SECONDS_MAX
        while time.monotonic() < until:
            for message in self._consumer.consume(READ_RECORDS, 0.1):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                    return
                else:
                    raise KafkaException(error)
        raise TimeoutError(f"{self._topic} partition {partition} was not read within {READ_SECONDS_MAX} s")
