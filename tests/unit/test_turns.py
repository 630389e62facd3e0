"""Whose turn it is to compute: one partition at a time, each to its batch's end."""

import asyncio
import logging
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.stream.partition import SLICE_RECORDS, PartitionMeter
from tests.builders import record, usage
from tests.partition_meters import empty_memory, shared_by_meters, transaction_never_fenced

POLLED = 5 * SLICE_RECORDS
STEPS = "pipeline.stream.partition.steps"


async def metered(directory: Path, *, is_taken_away: bool = False) -> None:
    """Two partitions whose records come at once. Their producers were never fenced, so each ends after one batch."""
    settings = Settings()
    shared = shared_by_meters(settings)
    meters = [PartitionMeter(shared, partition) for partition in (0, 1)]
    tasks: list[asyncio.Task[None]] = []
    for meter in meters:
        transaction = transaction_never_fenced(settings, meter.partition)
        tasks.append(asyncio.create_task(meter._meter(transaction, empty_memory(directory))))
        meter.offer([record(usage(event_id=f"e{n}"), offset=n) for n in range(POLLED)])
    await asyncio.sleep(0)
    if is_taken_away:
        meters[1].abandon()
    await asyncio.wait(tasks, timeout=30)


def test_a_partition_computes_its_batch_before_the_next_one_begins(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """In turns of a slice they would end together, and nobody would compute while they commit."""
    with caplog.at_level(logging.DEBUG, STEPS):
        asyncio.run(metered(tmp_path))
    steps = [each for each in caplog.messages if each.startswith(("begun", "folded"))]
    assert steps == ["begun 0 0", f"folded 0 {POLLED}", "begun 1 0", f"folded 1 {POLLED}"]


def test_a_partition_that_is_taken_away_while_it_waits_begins_no_batch(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.DEBUG, STEPS):
        asyncio.run(metered(tmp_path, is_taken_away=True))
    assert [each for each in caplog.messages if each.startswith("begun")] == ["begun 0 0"]
