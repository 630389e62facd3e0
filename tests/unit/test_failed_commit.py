"""A commit that failed may have succeeded: memory stays as it was, and the process ends. Each is enough by itself."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.boundaries import Boundaries
from pipeline.kafka import KafkaException, producer
from pipeline.metering import initial_cursor
from pipeline.settings import Settings
from pipeline.stream import assignment
from pipeline.stream.closed_hours import ClosedHours
from pipeline.stream.compactor import Compactor
from pipeline.stream.dead_letter_limit import DeadLetterLimit
from pipeline.stream.identities import IdentityIndex
from pipeline.stream.local_rows import LocalRows
from pipeline.stream.memory import PartitionMemory
from pipeline.stream.partition import PartitionMeter, Shared
from pipeline.stream.rows import Rows
from pipeline.stream.transaction import Transaction
from pipeline.stream.whole_rows import Origin
from tests.builders import core, open_account, record


async def committed_in_vain(memory: PartitionMemory) -> "asyncio.Task[None]":
    """A batch over a producer that was never fenced, so that its transaction cannot begin."""
    settings = Settings()
    shared = Shared(
        settings=settings,
        core=core(),
        threads=ThreadPoolExecutor(1),
        disk=ThreadPoolExecutor(1),
        compactor=Compactor(),
        dead_letter_limit=DeadLetterLimit(window_records=100, share_max=1),
    )
    meter = PartitionMeter(shared, 0)
    quiet = producer(settings.kafka, transactional_id="never-fenced", log_level="0")
    task = asyncio.create_task(meter._meter(Transaction(settings, 0, quiet), memory))
    meter.offer([record(open_account())], 1)
    await asyncio.wait([task], timeout=10)
    return task


def empty_memory(directory: Path) -> PartitionMemory:
    origin = Origin(topic="changelog", topic_id="topic-id", partition=0, partitions=1)
    closed = ClosedHours(directory=None, topic_id="topic", partition=0)
    return PartitionMemory(
        partition=0,
        cursor=initial_cursor(core(), "topic-id"),
        published={},
        accounts=Rows({}, {}),
        identities=IdentityIndex(closed, keep_ms=1000),
        boundaries=Boundaries(()),
        local=LocalRows(directory, origin, log_bytes_min=1, compactor=Compactor()),
    )


def test_a_batch_whose_commit_fails_changes_no_memory_and_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memory = empty_memory(tmp_path)
    before = memory.cursor

    task = asyncio.run(committed_in_vain(memory))

    assert isinstance(task.exception(), KafkaException)
    assert (memory.cursor, len(memory.accounts), len(memory.identities)) == (before, 0, 0)

    ended: list[str] = []
    monkeypatch.setattr(
        assignment, "end_by", lambda error, where: ended.append(f"{where}: {type(error).__name__}")
    )
    assignment._end_if_failed(task)
    assert ended == ["a batch failed: KafkaException"]
