"""Loads one partition's memory, from files where they can be used and from Kafka, and refuses what cannot be gone on
from.

Runs in a thread, after fencing: nobody else writes to these partitions any more, so their end stays where it is.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing

from pipeline.boundaries import Boundaries
from pipeline.crash_points import Phase, reached
from pipeline.domain.instants import SECOND_MS
from pipeline.metering import Batch, Core
from pipeline.settings import Settings
from pipeline.state import Cursor, next_boundary_ms
from pipeline.stream.closed_hours import ClosedHours
from pipeline.stream.compactor import Compactor
from pipeline.stream.ending import RefusedError, refused
from pipeline.stream.identities import IdentityIndex
from pipeline.stream.memory import PartitionMemory
from pipeline.stream.reading import PartitionReader
from pipeline.stream.table_loading import TableLoader
from schemas.topics import ACCOUNT_EVENTS, HOUR_MS, IDENTITIES

_logger = logging.getLogger(__name__)


class Loader:
    """Loads one partition. `abandoned` is set when nobody wants the result any more."""

    def __init__(
        self, settings: Settings, core: Core, partition: int, abandoned: threading.Event, compactor: Compactor
    ) -> None:
        self._settings = settings
        self._core = core
        self._partition = partition
        self._abandoned = abandoned
        self._compactor = compactor

    def load(self) -> PartitionMemory:
        """Rows, cursor and identities, verified."""
        begun = time.monotonic()
        with closing(PartitionReader(self._settings, self._partition, self._abandoned)) as reader:
            table = TableLoader(self._settings, self._core, reader, self._compactor).load()
            rows_at = time.monotonic()
            reached(Phase.WORKER_LOADING, self._partition)
            self._verify_source(reader, table.cursor)
            identities = self._read_identities(reader, table.cursor)
        changed = ((key, next_boundary_ms(row)) for key, row in table.rows.changed.items())
        memory = PartitionMemory(
            partition=self._partition,
            cursor=table.cursor,
            published=table.published,
            accounts=table.rows,
            identities=identities,
            boundaries=Boundaries(changed, table.line),
            local=table.local,
        )
        self._verify_schedule(memory)
        _logger.info(
            "partition %d: %d accounts in %.2f s, %d records of the changelog read; %d identities in %.2f s",
            self._partition,
            len(table.rows),
            rows_at - begun,
            table.read,
            len(identities),
            time.monotonic() - rows_at,
        )
        return memory

    def _verify_source(self, reader: PartitionReader, cursor: Cursor) -> None:
        low, high = reader.bounds(ACCOUNT_EVENTS)
        topic = reader.topic(ACCOUNT_EVENTS)
        if low > cursor.next_offset:
            raise self._refused(
                f"expected {topic} to begin at or before offset {cursor.next_offset}, it begins at {low}: "
                "retention has deleted events that were never metered",
                "restore the log from a copy; lengthen its retention (retention.ms)",
            )
        if high < cursor.next_offset:
            raise self._refused(
                f"expected {topic} to end at or after offset {cursor.next_offset}, it ends at {high}: "
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

    def _read_identities(self, reader: PartitionReader, cursor: Cursor) -> IdentityIndex:
        rules = self._settings.rules
        keep_ms = rules.hot_window_hours * HOUR_MS + rules.ahead_seconds_max * SECOND_MS
        closed = ClosedHours(
            directory=self._settings.home / "identities" / reader.topic(IDENTITIES) / str(self._partition),
            topic_id=reader.topic_id(IDENTITIES),
            partition=self._partition,
            hour_ms=self._settings.worker.identity_hour_seconds * SECOND_MS,
        )

        def read(since_ms: int) -> Iterator[tuple[bytes, int]]:
            _, high = reader.bounds(IDENTITIES)
            for message in reader.read(
                IDENTITIES, reader.offset_at(IDENTITIES, max(0, since_ms), high), high
            ):
                yield message.value() or b"", message.timestamp()[1]

        index = IdentityIndex(closed, keep_ms=keep_ms, clock_ms=cursor.clock_ms)
        for memory_bytes in index.load(read):
            require_memory(self._settings, memory_bytes)
        return index

    def _refused(self, what: str, remedy: str) -> RefusedError:
        return refused(self._partition, what, remedy)


def require_memory(settings: Settings, identity_bytes: int) -> None:
    """Stop before memory runs out: an identity forgotten early is an event charged twice."""
    limit = settings.worker.identity_bytes_max
    if identity_bytes > limit:
        raise RefusedError(
            f"expected at most {limit} bytes of identities in this worker, they take {identity_bytes}. Remedy: run "
            "more workers, raise CREDITSTREAM_WORKER__IDENTITY_BYTES_MAX, or shorten the hot window"
        )
