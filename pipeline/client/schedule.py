"""Reads which price books and plans a running deployment has: the schedules in its cursors, and published content.

What stands here is committed, by the worker that holds the partition; a worker that is behind shows what it has read.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.kafka import (
    QUIET,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    drain,
    topic_name,
    watermarks,
)
from pipeline.settings import Settings
from pipeline.state import (
    CURSOR_KEY,
    RESERVED_KEYS,
    Cursor,
    VersionRef,
    decode_cursor,
    plan_catalog_key,
    price_book_key,
)
from schemas.publication import PLAN_CATALOG_TYPE, PRICE_BOOK_TYPE
from schemas.topics import changelog

TAIL_OFFSETS: Final = 100
"""First guess of how far the last cursor stands before the end: it is the last record of every transaction."""
STALL_SECONDS_MAX: Final = 30
"""Without a record and without the end for this long, the broker is given up."""
READ_RECORDS: Final = 5000


@dataclass(frozen=True, slots=True)
class Kind:
    """A price book or a plan catalogue."""

    name: str
    """For people."""
    type: str
    """Of the CloudEvent that publishes one."""
    key_of: Callable[[str], bytes]
    """Version → key of its content in the changelog."""
    refs_of: Callable[[Cursor], tuple[VersionRef, ...]]


PRICE_BOOKS: Final = Kind("price book", PRICE_BOOK_TYPE, price_book_key, lambda cursor: cursor.price_books)
PLAN_CATALOGS: Final = Kind(
    "plan catalogue", PLAN_CATALOG_TYPE, plan_catalog_key, lambda cursor: cursor.plan_catalogs
)


class DeploymentReader:
    """One reader of a deployment's topics, one partition after the other. Close it."""

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": 10, **QUIET}
        self._consumer: Consumer = consumer(settings.kafka, **options)
        self._admin = admin(settings.kafka)
        self._kafka = settings.kafka
        self._changelog = changelog(settings.worker.app_id)
        self._timeout_seconds = settings.client.request_timeout_seconds

    def close(self) -> None:
        self._consumer.close()

    def cursors(self) -> dict[int, Cursor | None]:
        """The newest cursor of each partition; None where no batch was ever committed."""
        return {partition: self._cursor(partition) for partition in range(self._kafka.partitions)}

    def content(self, key: bytes) -> bytes | None:
        """A row of published content, from the partition with the least to read."""
        spans = {each: self.bounds(self._changelog, each) for each in range(self._kafka.partitions)}
        shortest = min(spans, key=lambda partition: spans[partition][1] - spans[partition][0])
        return self.table(shortest)[1].get(key)

    def table(self, partition: int) -> tuple[Cursor | None, dict[bytes, bytes]]:
        """The newest cursor and all published content of a partition. Reads its whole changelog."""
        rows = {
            message.key() or b"": message.value() or b""
            for message in self.messages(self._changelog, partition, *self.bounds(self._changelog, partition))
            if (message.key() or b"").startswith(RESERVED_KEYS)
        }
        cursor = rows.pop(CURSOR_KEY, None)
        return None if cursor is None else decode_cursor(cursor), rows

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset and the one after the last."""
        place = TopicPartition(topic_name(self._kafka, topic), partition)
        return watermarks(self._consumer, self._admin, place, timeout_seconds=self._timeout_seconds)

    def messages(self, topic: str, partition: int, start: int, end: int) -> Iterator[Message]:
        """Committed records with offsets from `start` to before `end`, as far as there are any. Raises TimeoutError."""
        if start >= end:
            return
        self._consumer.assign([TopicPartition(topic_name(self._kafka, topic), partition, start)])
        until = time.monotonic() + STALL_SECONDS_MAX
        while time.monotonic() < until:
            for message in drain(self._consumer, READ_RECORDS, 0.1):
                until = time.monotonic() + STALL_SECONDS_MAX
                error = message.error()
                if error is None and (message.offset() or 0) < end:
                    yield message
                elif error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its own name for it)
                    return
                else:
                    raise KafkaException(error)
        raise TimeoutError(f"{topic} partition {partition}: nothing came for {STALL_SECONDS_MAX} s")

    def _cursor(self, partition: int) -> Cursor | None:
        low, high = self.bounds(self._changelog, partition)
        back = TAIL_OFFSETS
        while low < high:
            start = max(low, high - back)
            records = self.messages(self._changelog, partition, start, high)
            found = [each.value() for each in records if each.key() == CURSOR_KEY]
            if found:
                return decode_cursor(found[-1] or b"")
            if start == low:
                break
            back *= 8
        return None
