"""The partitions this worker holds, in the generation of its group that it last heard of.

Every generation begins anew, for partitions that stayed as well: a worker that was paused past its session gets a
partition back without ever noticing that it had lost it, and must not go on with what it remembers.
"""

import asyncio
import gc
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.metering import Core, LogRecord
from pipeline.settings import Settings
from pipeline.stream.compactor import Compactor
from pipeline.stream.dead_letter_limit import DeadLetterLimit
from pipeline.stream.ending import end_by
from pipeline.stream.loading import require_memory
from pipeline.stream.partition import PartitionMeter, Shared
from pipeline.stream.reading import LoadAbandonedError

_logger = logging.getLogger(__name__)


class Assignment:
    """Owns the meters of the assigned partitions. All methods belong to the worker's event loop."""

    def __init__(self, settings: Settings, core: Core) -> None:
        worker = settings.worker
        self.generation = 0
        self.meters: dict[int, PartitionMeter] = {}
        self.is_changing = False
        """From giving partitions up until the next ones can be read."""
        self._open = False
        self._settings = settings
        self._shared = Shared(
            settings=settings,
            core=core,
            # A partition uses one thread at a time: to load or to commit.
            threads=ThreadPoolExecutor(settings.kafka.partitions, thread_name_prefix="partition"),
            disk=ThreadPoolExecutor(1, thread_name_prefix="disk"),
            compactor=Compactor(),
            dead_letter_limit=DeadLetterLimit(
                window_records=worker.dead_letter_window_records, share_max=worker.dead_letter_share_max
            ),
            require_memory=self._require_memory,
        )
        self._loads: list[asyncio.Task[None]] = []

    def begin(self, partitions: Iterable[int]) -> None:
        """A new generation: take these partitions over, side by side, outside the rebalance callback."""
        assert not self.meters, "the last generation was not released"
        self.generation += 1
        self.meters = {partition: PartitionMeter(self._shared, partition) for partition in partitions}
        self.is_changing = bool(self.meters)
        _logger.info("takes over partitions %s", sorted(self.meters))
        self._loads = [asyncio.ensure_future(self._take_over(meter)) for meter in self.meters.values()]

    async def _take_over(self, meter: PartitionMeter) -> None:
        try:
            await meter.take_over()
        except LoadAbandonedError:
            pass
        except Exception as error:  # noqa: BLE001  (nothing above it: Faust would log it and stand still)
            end_by(error, f"partition {meter.partition} could not be taken over")
        if meter.task is not None:
            meter.task.add_done_callback(_end_if_failed)

    async def loaded(self) -> None:
        """Wait until every partition of this generation can be read from its cursor on."""
        if self._loads:
            await asyncio.wait(self._loads)
        accounts = sum(len(each.memory.accounts) for each in self.meters.values() if each.memory)
        _logger.info("holds partitions %s with %d accounts", sorted(self.meters), accounts)
        gc.collect()
        gc.freeze()

    async def release(self) -> None:
        """Give all partitions up: the batches that run are committed, no other begins."""
        meters, self.meters = self.meters, {}
        self.generation += 1
        self._open, self.is_changing = False, True
        for meter in meters.values():
            meter.abandon()
        if self._loads:
            await asyncio.wait(self._loads)
        for meter in meters.values():
            await meter.finished()

    def positions(self) -> dict[int, int]:
        """Where each partition goes on: the cursor's word, not the group's."""
        return {
            partition: meter.memory.cursor.next_offset
            for partition, meter in list(self.meters.items())
            if meter.memory is not None
        }

    def is_idle(self, partition: int) -> bool:
        """Whether all that was polled of the partition is committed."""
        meter = self.meters.get(partition)
        return meter is None or meter.is_idle

    def open(self, generation: int) -> None:
        """Reading may begin: the positions of this generation have been sought."""
        if generation == self.generation:
            self._open, self.is_changing = True, False

    def offer(self, generation: int, partition: int, records: Sequence[LogRecord]) -> None:
        """Hand polled records to their partition; those of another generation are read again."""
        if generation == self.generation:
            self.meters[partition].offer(records)

    def has_room(self, partition: int) -> bool:
        """Whether the partition can take more records now."""
        meter = self.meters.get(partition)
        return self._open and meter is not None and not meter.is_full

    async def wait_for_room(self, seconds: float) -> None:
        """Wait until a batch was committed somewhere, or not longer than this."""
        self._shared.room.clear()
        try:
            await asyncio.wait_for(self._shared.room.wait(), seconds)
        except TimeoutError:
            return

    def _require_memory(self) -> None:
        used = sum(each.memory.identities.memory_bytes for each in self.meters.values() if each.memory)
        require_memory(self._settings, used)


def _end_if_failed(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        end_by(error, "a batch failed")
