"""Where a batch ends: not before what waited when it began, except at its records and bytes."""

import asyncio
from pathlib import Path

from pipeline.settings import Settings, WorkerSettings
from pipeline.stream.partition import SLICE_RECORDS
from pipeline.tracing import NO_TRACES
from tests.builders import record, usage
from tests.partition_meters import empty_memory, partition_meter

POLLED = 5 * SLICE_RECORDS


async def batch_records(directory: Path, **worker: int) -> tuple[int, int]:
    """How many of `POLLED` records the next batch takes, and the one after it, when as many come meanwhile."""
    meter = partition_meter(Settings(worker=WorkerSettings(**worker)))
    memory = empty_memory(directory)

    def poll(first: int) -> None:
        meter.offer([record(usage(event_id=f"e{first + n}"), offset=first + n) for n in range(POLLED)])

    poll(0)
    asyncio.get_running_loop().call_soon(poll, POLLED)
    _, first = await meter._fold(memory, NO_TRACES)
    _, second = await meter._fold(memory, NO_TRACES)
    return first, second


def test_a_batch_takes_what_waited_when_it_began_however_long_that_takes(tmp_path: Path) -> None:
    """Else each piece would write the rows of its accounts once more."""
    assert asyncio.run(batch_records(tmp_path, batch_core_ms_max=1)) == (POLLED, POLLED)


def test_a_batch_goes_on_with_what_comes_while_it_is_short(tmp_path: Path) -> None:
    assert asyncio.run(batch_records(tmp_path, batch_core_ms_max=60_000)) == (2 * POLLED, 0)


def test_a_batch_ends_after_its_records(tmp_path: Path) -> None:
    assert asyncio.run(batch_records(tmp_path, batch_rows_max=POLLED - 1)) == (POLLED - 1, POLLED - 1)


def test_a_batch_ends_after_its_bytes(tmp_path: Path) -> None:
    assert asyncio.run(batch_records(tmp_path, batch_bytes_max=1024)) == (SLICE_RECORDS, SLICE_RECORDS)
