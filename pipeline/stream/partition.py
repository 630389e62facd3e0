"""Meters one partition for as long as this worker holds it: fence, load, then one batch at a time.

A batch takes all that waits when it begins, and what comes while it has been in the core for less than
`batch_core_ms_max`; at most `batch_rows_max` records and `batch_bytes_max`. So batches grow with the load, and large
ones cost less an event: they write each account's row once for many. A shorter one would answer nobody sooner, as the
rest would wait for one commit more.
While one partition commits in a thread, another computes in the event loop. One computes at a time, to its batch's end:
four that took turns would end together, then commit together while nobody computes, and a poll, which needs many turns
of the loop, would wait for a slice of each every time.
"""

import asyncio
import gc
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from pipeline.crash_points import Phase, reached
from pipeline.evidence import NO_EVIDENCE, Evidence, wanted
from pipeline.metering import Batch, Core, Folded, LogRecord
from pipeline.settings import Settings
from pipeline.stream.compactor import Compactor
from pipeline.stream.dead_letter_limit import DeadLetterLimit
from pipeline.stream.ending import DEAD_LETTERS, end_by, end_process
from pipeline.stream.fencing import fence
from pipeline.stream.loading import Loader
from pipeline.stream.measure import measured, tell_dead_letters
from pipeline.stream.memory import PartitionMemory
from pipeline.stream.past import read_past
from pipeline.stream.settling import settle
from pipeline.stream.transaction import Transaction
from pipeline.tracing import Traces, of_batch

SLICE_RECORDS: Final = 200
"""Given to the core at once, about 10 ms of work; between slices the clock is read and the event loop turns."""
LOOP_TURNS: Final = 8
"""Of the event loop after each slice. What was polled passes through Faust in some sixteen turns: with one turn a slice
a poll took half a second under load. A turn in which nothing waits takes about 6 us."""
PAST_SECONDS_MAX: Final = 0.05
"""A batch ends after this much waiting for past records, so that nothing queues behind thousands of corrections."""
WAITING_BATCHES_MAX: Final = 2
"""Batches' worth of polled records that may wait; a partition with more is not polled."""
COLLECT_RECORDS: Final = 1_000_000
"""Python's cyclic collector runs between batches, after this many records; see `Collector`. It walks all records that
wait, so each time takes a tenth of a second."""

_steps = logging.getLogger(f"{__name__}.steps")
"""At DEBUG, which partition has come how far with what, and when: so the bench sees where a hold spends its time."""


@dataclass(slots=True)
class Collector:
    """Keeps the cyclic collector out of the hot path, where it walks every growing batch again and again."""

    _records: int = 0

    def after(self, records: int) -> None:
        """Count a batch; collect if it is time. Rows are bytes and what was loaded is frozen, so this is short."""
        self._records += records
        if self._records >= COLLECT_RECORDS:
            self._records = 0
            gc.collect()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all partitions of one worker use together."""

    settings: Settings
    core: Core
    threads: ThreadPoolExecutor
    disk: ThreadPoolExecutor
    """One thread, which writes what the next start need not read from Kafka."""
    compactor: Compactor
    dead_letter_limit: DeadLetterLimit
    collector: Collector = field(default_factory=Collector)
    require_memory: Callable[[], None] = lambda: None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever holds it computes a batch; first come, first served."""
    room: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a partition can take records again."""


class PartitionMeter:
    """One partition in one generation. Made anew, from fencing on, whenever the partition is assigned."""

    def __init__(self, shared: Shared, partition: int) -> None:
        self.partition = partition
        self.memory: PartitionMemory | None = None
        self._shared = shared
        self._next_offset = 0
        self._waiting: deque[LogRecord] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._given_up = threading.Event()
        self.task: asyncio.Task[None] | None = None
        self._is_writing = False
        self._batch_rows_max = shared.settings.worker.batch_rows_max
        self._batch_bytes_max = shared.settings.worker.batch_bytes_max

    async def take_over(self) -> None:
        """Fence, then load. Both block, so they run in a thread; heartbeats go on meanwhile."""
        loop = asyncio.get_running_loop()
        transaction, memory = await loop.run_in_executor(self._shared.threads, self._fence_and_load)
        self.memory, self._next_offset = memory, memory.cursor.next_offset
        if not self._given_up.is_set():
            self.task = loop.create_task(self._meter(transaction, memory))

    def _fence_and_load(self) -> tuple[Transaction, PartitionMemory]:
        settings = self._shared.settings
        producer = fence(settings, self.partition)
        _steps.debug("fenced %d 0", self.partition)
        loader = Loader(settings, self._shared.core, self.partition, self._given_up, self._shared.compactor)
        memory = loader.load()
        settle(settings, producer, self.partition, memory.cursor, self._given_up)
        return Transaction(settings, self.partition, producer), memory

    def abandon(self) -> None:
        """Start no further batch; a load that is under way ends soon."""
        self._given_up.set()
        self._arrived.set()

    async def finished(self) -> None:
        """Wait until the batch that was running is committed, and what the disk shall know is written."""
        if self.task is not None:
            await self.task
        if self.memory is not None:
            await asyncio.get_running_loop().run_in_executor(self._shared.disk, self.memory.local.close)

    @property
    def is_full(self) -> bool:
        """Whether the partition should not be polled for now."""
        return (
            len(self._waiting) >= WAITING_BATCHES_MAX * self._batch_rows_max
            or self._waiting_bytes >= WAITING_BATCHES_MAX * self._batch_bytes_max
        )

    @property
    def is_idle(self) -> bool:
        """Whether all that was polled is committed."""
        return not self._waiting and not self._arrived.is_set()

    def offer(self, records: Sequence[LogRecord]) -> None:
        """Take polled records in line."""
        # Above it is normal: transaction markers take offsets. Below it is a record that was metered already.
        assert records[0].offset >= self._next_offset, (self.partition, records[0].offset, self._next_offset)
        self._next_offset = records[-1].offset + 1
        self._waiting.extend(records)
        self._waiting_bytes += _bytes_of(records)
        self._arrived.set()
        _steps.debug("polled %d %d", self.partition, self._next_offset)

    async def _meter(self, transaction: Transaction, memory: PartitionMemory) -> None:
        loop, shared = asyncio.get_running_loop(), self._shared
        while not self._given_up.is_set():
            if not self._waiting:
                # Nothing is awaited between the look and the clearing, so neither records nor the end are missed.
                self._arrived.clear()
                await self._arrived.wait()
                continue
            async with shared.turn:
                if self._given_up.is_set():
                    return
                _steps.debug("begun %d %d", self.partition, self._waiting[0].offset)
                first_at_ms = self._waiting[0].timestamp
                traces = of_batch("meter", self.partition)
                folded, records = await self._fold(memory, traces)
            _steps.debug("folded %d %d", self.partition, folded.cursor.next_offset)
            self._require_few_dead_letters(folded, records)
            begun = time.perf_counter()
            position = await loop.run_in_executor(shared.threads, transaction.commit, folded, traces)
            commit_seconds = time.perf_counter() - begun
            reached(Phase.WORKER_COMMITTED, self.partition)
            _steps.debug("committed %d %d", self.partition, folded.cursor.next_offset)
            # Still ours: the meter of another generation has a memory of its own.
            memory.apply(folded, position)
            traces.end()
            measured(folded, records=records, first_at_ms=first_at_ms, commit_seconds=commit_seconds)
            if folded.dead_letters:
                tell_dead_letters(folded, traces)
            self._write_in_passing(memory)
            shared.require_memory()
            shared.collector.after(records)
            shared.room.set()

    def _write_in_passing(self, memory: PartitionMemory) -> None:
        """Bring files up to date while batches go on."""
        if self._is_writing or not (memory.local.wants_keeping or memory.identities.wants_closing):
            return

        def write() -> None:
            if memory.local.wants_keeping:
                memory.local.keep()
            if memory.identities.wants_closing:
                memory.identities.close_hours()

        self._is_writing = True
        asyncio.get_running_loop().run_in_executor(self._shared.disk, write).add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[None]) -> None:
        self._is_writing = False
        error = writing.exception()
        if error is not None:
            end_by(error, f"partition {self.partition}: rows or identities could not be brought into files")

    async def _fold(self, memory: PartitionMemory, traces: Traces) -> tuple[Folded, int]:
        batch = Batch(self._shared.core, memory.view())
        waited, core_seconds_max = len(self._waiting), self._shared.settings.worker.batch_core_ms_max / 1000
        records, taken_bytes, core_seconds, past_seconds = 0, 0, 0.0, 0.0
        while (
            self._waiting
            and records < self._batch_rows_max
            and taken_bytes < self._batch_bytes_max
            and (records < waited or core_seconds < core_seconds_max)
            and past_seconds < PAST_SECONDS_MAX
        ):
            size = min(SLICE_RECORDS, self._batch_rows_max - records, len(self._waiting))
            slice_ = [self._waiting.popleft() for _ in range(size)]
            slice_bytes = _bytes_of(slice_)
            self._waiting_bytes -= slice_bytes
            taken_bytes += slice_bytes
            begun = time.perf_counter()
            traces.take_all(slice_)
            evidence = await self._evidence(slice_)
            read = time.perf_counter()
            batch.feed(slice_, evidence)
            past_seconds += read - begun
            core_seconds += time.perf_counter() - read
            records += size
            reached(Phase.WORKER_COMPUTING, self.partition)
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
        return batch.finish(), records

    async def _evidence(self, records: Sequence[LogRecord]) -> Evidence:
        """What commands among these records name of the past; nearly always nothing.

        Others compute while it is read."""
        shared = self._shared
        named = wanted(records, shared.core)
        if not named:
            return NO_EVIDENCE
        shared.turn.release()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                shared.threads, read_past, shared.settings, self.partition, named
            )
        finally:
            await shared.turn.acquire()

    def _require_few_dead_letters(self, folded: Folded, records: int) -> None:
        reason = self._shared.dead_letter_limit.exceeded_by(records=records, dead_letters=folded.dead_letters)
        if reason is not None:
            end_process(DEAD_LETTERS, reason)


def _bytes_of(records: Sequence[LogRecord]) -> int:
    # A list, because a generator takes twice as long.
    return sum([len(record.value or b"") for record in records])
