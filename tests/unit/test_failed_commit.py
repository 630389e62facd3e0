"""A commit that failed may have succeeded: memory stays as it was, and the process ends. Each is enough by itself."""

import asyncio
from pathlib import Path

import pytest

from pipeline.kafka import KafkaException
from pipeline.settings import Settings
from pipeline.stream import assignment
from pipeline.stream.memory import PartitionMemory
from tests.builders import open_account, record
from tests.partition_meters import empty_memory, partition_meter, transaction_never_fenced


async def committed_in_vain(memory: PartitionMemory) -> "asyncio.Task[None]":
    """A batch over a producer that was never fenced, so that its transaction cannot begin."""
    settings = Settings()
    meter = partition_meter(settings)
    task = asyncio.create_task(meter._meter(transaction_never_fenced(settings), memory))
    meter.offer([record(open_account())])
    await asyncio.wait([task], timeout=10)
    return task


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
