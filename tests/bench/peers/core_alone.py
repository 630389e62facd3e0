"""The core without Kafka: records in memory, batches of the worker's size, nothing sent. The bound for every program.

It is also the judge: what it works out is what every program must have written, byte for byte.
`python -m tests.bench.peers.core_alone WARM_UP_RECORDS` reads the input topic, folds it, prints `Folding` as JSON.
"""

import gc
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Final

import orjson

from pipeline.bootstrap import load_core
from pipeline.kafka import Logged, admin, logged, topic_id, topic_name
from pipeline.metering import Batch, Folded, OutRecord, initial_cursor
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, METERED_RECORDS
from tests.bench.peers.simple_job import credits_of
from tests.bench.peers.state import PartitionState
from tests.bench.reading import read_to_end
from tests.bench.results import Results, Sums

COLLECT_RECORDS: Final = 1_000_000


@dataclass(slots=True, kw_only=True)
class Folding:
    """How long the records after the warm-up took, and what all of them came to."""

    records: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    """Of metered records only."""
    credits: Decimal = Decimal(0)
    results: Results | None = None
    simple_records: int = 0
    """All of the input, and what the simple job charges for it."""
    simple_credits: int = 0


def fold(settings: Settings, warm_up_records: int) -> Folding:
    """Fold the whole input topic, partitions by turns."""
    core, inputs = load_core(settings), _read_input(settings)
    source = topic_name(settings.kafka, ACCOUNT_EVENTS)
    cursor = initial_cursor(core, topic_id(admin(settings.kafka), source, timeout_seconds=30))
    states = [PartitionState(partition=each, cursor=cursor) for each in range(len(inputs))]
    folding, sums, done = Folding(), Sums(), 0
    gc.disable()
    gc.freeze()
    for partition, records in _by_turns(inputs, settings.worker.batch_rows_max):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        batch = Batch(core, states[partition].view())
        batch.feed(records)
        folded = batch.finish()
        states[partition].apply(folded)
        if done // COLLECT_RECORDS < (done + len(records)) // COLLECT_RECORDS:
            gc.collect()
        if done >= warm_up_records:
            folding.seconds += time.perf_counter() - begun
            folding.cpu_seconds += time.process_time() - cpu_begun
            folding.records += len(records)
        done += len(records)
        _judge(folded, folding, sums)
    for state in states:
        sums.add_rows(state.accounts.items())
    folding.results = sums.results()
    folding.simple_records = sum(map(len, inputs))
    folding.simple_credits = sum(credits_of(each.value) for records in inputs for each in records)
    return folding


def _judge(folded: Folded, folding: Folding, sums: Sums) -> None:
    """Outside the measured time."""
    for record in folded.records:
        sums.add(*record)
    for body in map(orjson.loads, _metered(folded.records)):
        folding.outcomes[body["outcome"]] = folding.outcomes.get(body["outcome"], 0) + 1
        folding.credits += Decimal(body["credits"])


def _metered(records: list[OutRecord]) -> list[bytes]:
    return [each.value for each in records if each.topic == METERED_RECORDS]


def _read_input(settings: Settings) -> list[list[Logged]]:
    inputs: list[list[Logged]] = [[] for _ in range(settings.kafka.partitions)]
    for message in read_to_end(settings.kafka, [ACCOUNT_EVENTS]):
        inputs[message.partition() or 0].append(logged(message))
    return inputs


def _by_turns(inputs: list[list[Logged]], size: int) -> Iterator[tuple[int, list[Logged]]]:
    for first in range(0, max(map(len, inputs)), size):
        for partition, records in enumerate(inputs):
            if records[first : first + size]:
                yield partition, records[first : first + size]


if __name__ == "__main__":
    told = asdict(fold(Settings(), int(sys.argv[1])))
    sys.stdout.write(orjson.dumps(told, default=str).decode())
