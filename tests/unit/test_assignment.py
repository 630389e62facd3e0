"""Records belong to the generation in which they were polled."""

import asyncio

import pytest

from pipeline.settings import Settings
from pipeline.stream.assignment import Assignment
from tests.builders import core, record, usage
from tests.partition_meters import partition_meter


def test_what_was_polled_in_another_generation_is_left_to_be_read_again() -> None:
    async def offered() -> tuple[bool, bool]:
        held = Assignment(Settings(), core())
        held.generation, held.meters = 2, {0: partition_meter()}
        held.offer(1, 0, [record(usage(), offset=7)])
        of_another = held.meters[0].is_idle
        held.offer(2, 0, [record(usage(), offset=7)])
        return of_another, held.meters[0].is_idle

    assert asyncio.run(offered()) == (True, False)


def test_records_that_were_taken_already_end_the_worker() -> None:
    """The guard behind the check above: without it, they would come once by the old poll and once by the new one."""
    taken = partition_meter()
    taken.offer([record(usage(), offset=7)])
    with pytest.raises(AssertionError):
        taken.offer([record(usage(), offset=7)])


def test_a_partition_is_not_polled_while_large_events_wait() -> None:
    """Records alone would let twenty thousand of the largest events wait."""
    waiting = partition_meter()
    waiting.offer([record(bytes(16_777_216), offset=7)])
    assert not waiting.is_full
    waiting.offer([record(bytes(16_777_216), offset=8)])
    assert waiting.is_full
