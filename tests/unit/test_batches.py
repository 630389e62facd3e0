"""Where a batch ends: at its time in the core, unless the partition is behind its log by a whole batch."""

import asyncio
from pathlib import Path

from pipeline.settings import Settings, WorkerSettings
from pipeline.stream.partition import SLICE_RECORDS
from pipeline.tracing import NO_TRACES
from tests.builders import record, usage
from tests.partition_meters import empty_memory, partition_meter

POLLED = 5 * SLICE_RECORDS


def records_of_a_batch(directory: Path, *, end: int, **worker: int) -> int:
    """How many of `POLLED` records the next batch takes, of a partition that ends there."""
    meter = partition_meter(Settings(worker=WorkerSettings(batch_core_ms_max=1, **worker)))
    meter.offer([record(usage(event_id=f"e{each}"), offset=each) for each in range(POLLED)], end)
    _, taken = asyncio.run(meter._fold(empty_memory(directory), NO_TRACES))
    return taken


def test_a_batch_ends_after_its_time_in_the_core(tmp_path: Path) -> None:
    assert records_of_a_batch(tmp_path, end=POLLED) == SLICE_RECORDS


def test_a_partition_that_is_behind_takes_all_that_was_polled(tmp_path: Path) -> None:
    """However little that is: else each piece would write the rows of its accounts once more."""
    assert records_of_a_batch(tmp_path, end=100 * POLLED) == POLLED


def test_a_batch_ends_after_its_bytes(tmp_path: Path) -> None:
    taken = records_of_a_batch(tmp_path, end=100 * POLLED, batch_bytes_max=1024)
    assert taken == SLICE_RECORDS
