"""One partition's meter and memory without Kafka, for tests of what lies between two commits."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.boundaries import Boundaries
from pipeline.kafka import producer
from pipeline.metering import initial_cursor
from pipeline.settings import Settings
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
from tests.builders import core


def partition_meter(settings: Settings | None = None) -> PartitionMeter:
    """Of partition 0, which it has not taken over."""
    return PartitionMeter(shared_by_meters(settings), 0)


def shared_by_meters(settings: Settings | None = None) -> Shared:
    return Shared(
        settings=settings or Settings(),
        core=core(),
        threads=ThreadPoolExecutor(1),
        disk=ThreadPoolExecutor(1),
        compactor=Compactor(),
        dead_letter_limit=DeadLetterLimit(window_records=100, share_max=1),
    )


def transaction_never_fenced(settings: Settings, partition: int = 0) -> Transaction:
    """One that cannot begin, whatever broker there is."""
    quiet = producer(settings.kafka, transactional_id=f"never-fenced-{partition}", log_level="0")
    return Transaction(settings, partition, quiet)


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
