"""Loads one partition's memory from Kafka, and refuses what cannot be gone on from.

Runs in a thread, after fencing: nobody else writes to these partitions any more, so their end stays where it is.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from pipeline.boundaries import Boundaries
from pipeline.crash_points import Phase, reached
from pipeline.domain.instants import SECOND_MS
from pipeline.kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    topic_id,
    topic_name,
)
from pipeline.metering import Batch, Core, initial_cursor
from pipeline.settings import Settings
from pipeline.state import (
    CURSOR_KEY,
    DIGEST_MODULUS,
    RESERVED_KEYS,
    Cursor,
    decode_cursor,
    next_boundary_ms,
    row_digest,
)
from pipeline.stream.closed_hours import ClosedHours
from pipeline.stream.ending import RefusedError
from pipeline.stream.identities import IdentityIndex
from pipeline.stream.memory import PartitionMemory
from schemas.topics import ACCOUNT_EVENTS, HOUR_MS, IDENTITIES, changelog

READ_RECORDS_MAX: Final = 10_000
"""Of one call to librdkafka."""
READ_WAIT_SECONDS: Final = 0.2
"""How long one call waits; also how soon a load that is no longer wanted notices."""
END_WAIT_MS: Final = 10
"""How long the broker holds a fetch that finds nothing. With librdkafka's 500 an empty partition took 4 s to load."""
REQUEST_SECONDS_MAX: Final = 30


class LoadAbandonedError(Exception):
    """The partition was taken away while it was being loaded."""


class Loader:
    """Loads one partition. `abandoned` is set when nobody wants the result any more."""

    def __init__(self, settings: Settings, core: Core, partition: int, abandoned: threading.Event) -> None:
        self._settings = settings
        self._core = core
        self._partition = partition
        self._abandoned = abandoned
        self._deadline = time.monotonic() + settings.worker.load_timeout_seconds

    def load(self) -> PartitionMemory:
        """Rows, cursor and identities, verified."""
        # The end is known when a fetch finds nothing, and every question waits for the fetch that is under way.
        options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": END_WAIT_MS}
        reader = consumer(self._settings.kafka, **options)
        try:
            rows = self._read_changelog(reader)
            reached(Phase.WORKER_LOADING, self._partition)
            cursor = self._cursor(rows)
            self._verify_digest(rows, cursor)
            self._verify_source(reader, cursor)
            identities = self._read_identities(reader, cursor)
        finally:
            reader.close()
        published = {key: rows.pop(key) for key in list(rows) if key.startswith(RESERVED_KEYS)}
        memory = PartitionMemory(
            partition=self._partition,
            cursor=cursor,
            published=published,
            accounts=rows,
            identities=identities,
            boundaries=Boundaries((key, next_boundary_ms(row)) for key, row in rows.items()),
        )
        self._verify_schedule(memory)
        return memory

    def _read_changelog(self, reader: Consumer) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes] = {}
        for message in self._read(reader, changelog(self._settings.worker.app_id)):
            key, value = message.key(), message.value()
            assert key is not None, (message.topic(), message.partition(), message.offset())
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return rows

    def _cursor(self, rows: dict[bytes, bytes]) -> Cursor:
        """Take the cursor out of the changelog's rows; a partition that nobody has worked on gets its first."""
        source = topic_name(self._settings.kafka, ACCOUNT_EVENTS)
        now_id = topic_id(admin(self._settings.kafka), source, timeout_seconds=REQUEST_SECONDS_MAX)
        value = rows.pop(CURSOR_KEY, None)
        if value is None:
            if rows:
                raise self._refused(
                    f"expected a cursor beside {len(rows)} account rows in the changelog, found none",
                    "the changelog was cut or written by another hand; rebuild it from the input topic",
                )
            return initial_cursor(self._core, now_id)
        cursor = self._readable(value)
        if cursor.topic_id != now_id:
            raise self._refused(
                f"expected {source} to be the topic with id {cursor.topic_id}, found {now_id}: it was recreated",
                "its offsets mean other events now. Restore the old topic, or recreate every topic of this "
                "deployment, or begin a new one under another CREDITSTREAM_KAFKA__TOPIC_PREFIX",
            )
        return cursor

    def _readable(self, value: bytes) -> Cursor:
        try:
            return decode_cursor(value)
        except ValueError as error:
            raise self._refused(str(error), "run the release that wrote it, or a newer one") from error

    def _verify_digest(self, rows: dict[bytes, bytes], cursor: Cursor) -> None:
        digest = sum(row_digest(key, row) for key, row in rows.items()) % DIGEST_MODULUS
        if digest != cursor.digest:
            raise self._refused(
                f"expected account rows with digest {cursor.digest:032x}, loaded {len(rows)} rows "
                f"with {digest:032x}",
                "a row is missing, altered or foreign. Nothing was charged on it; rebuild the changelog from the "
                "input topic",
            )

    def _verify_source(self, reader: Consumer, cursor: Cursor) -> None:
        source = self._place(ACCOUNT_EVENTS)
        low, high = reader.get_watermark_offsets(source, timeout=REQUEST_SECONDS_MAX)
        if low > cursor.next_offset:
            raise self._refused(
                f"expected {source.topic} to begin at or before offset {cursor.next_offset}, it begins at {low}: "
                "retention has deleted events that were never metered",
                "restore the log from a copy; lengthen its retention (retention.ms)",
            )
        if high < cursor.next_offset:
            raise self._refused(
                f"expected {source.topic} to end at or after offset {cursor.next_offset}, it ends at {high}: "
                "the log has lost its end",
                "restore the log from a copy; with an unclean leader election the lost events must be sent again",
            )

    def _verify_schedule(self, memory: PartitionMemory) -> None:
        try:
            Batch(self._core, memory.view())
        except ValueError as error:
            raise self._refused(
                str(error), "run the release that has it, or rebuild the changelog from the input topic"
            ) from error

    def _read_identities(self, reader: Consumer, cursor: Cursor) -> IdentityIndex:
        rules = self._settings.rules
        keep_ms = rules.hot_window_hours * HOUR_MS + rules.ahead_seconds_max * SECOND_MS
        topic = self._place(IDENTITIES)
        broker = admin(self._settings.kafka)
        closed = ClosedHours(
            directory=self._settings.home / "identities" / topic.topic / str(self._partition),
            topic_id=topic_id(broker, topic.topic, timeout_seconds=REQUEST_SECONDS_MAX),
            partition=self._partition,
        )

        def read(since_ms: int) -> Iterator[tuple[bytes, int]]:
            for message in self._read(reader, IDENTITIES, since_ms=max(0, since_ms)):
                yield message.value() or b"", message.timestamp()[1]

        index = IdentityIndex(closed, keep_ms=keep_ms, clock_ms=cursor.clock_ms)
        for memory_bytes in index.load(read):
            require_memory(self._settings, memory_bytes)
        return index

    def _read(self, reader: Consumer, topic: str, *, since_ms: int | None = None) -> Iterator[Message]:
        """Every committed record of our partition of the topic, in order, to the end that it has now."""
        place = self._place(topic)
        low, high = reader.get_watermark_offsets(place, timeout=REQUEST_SECONDS_MAX)
        start = low if since_ms is None else self._offset_at(reader, place, since_ms, high)
        if start >= high:
            return
        reader.assign([TopicPartition(place.topic, place.partition, start)])
        while True:
            self._check_wanted()
            for message in reader.consume(READ_RECORDS_MAX, READ_WAIT_SECONDS):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (confluent's own name for it)
                    assert (message.offset() or 0) >= high, (place, message.offset(), high)
                    return
                else:
                    raise KafkaException(error)

    def _offset_at(self, reader: Consumer, place: TopicPartition, since_ms: int, high: int) -> int:
        asked = TopicPartition(place.topic, place.partition, since_ms)
        (answer,) = reader.offsets_for_times([asked], timeout=REQUEST_SECONDS_MAX)
        return answer.offset if answer.offset >= 0 else high

    def _place(self, topic: str) -> TopicPartition:
        return TopicPartition(topic_name(self._settings.kafka, topic), self._partition)

    def _check_wanted(self) -> None:
        if self._abandoned.is_set():
            raise LoadAbandonedError
        if time.monotonic() > self._deadline:
            limit = self._settings.worker.load_timeout_seconds
            raise TimeoutError(
                f"partition {self._partition} was not loaded within {limit} s "
                "(CREDITSTREAM_WORKER__LOAD_TIMEOUT_SECONDS)"
            )

    def _refused(self, what: str, remedy: str) -> RefusedError:
        return RefusedError(f"partition {self._partition}: {what}. Remedy: {remedy}")


def require_memory(settings: Settings, identity_bytes: int) -> None:
    """Stop before memory runs out: an identity forgotten early is an event charged twice."""
    limit = settings.worker.identity_bytes_max
    if identity_bytes > limit:
        raise RefusedError(
            f"expected at most {limit} bytes of identities in this worker, they take {identity_bytes}. Remedy: run "
            "more workers, raise CREDITSTREAM_WORKER__IDENTITY_BYTES_MAX, or shorten the hot window"
        )
