"""The bare confluent-kafka loop round the same core: consume a batch, fold it, commit it, exactly once.

As fast as its user can make it: large batches, one transaction for all partitions of a batch, the position in the
cursor records (cheaper than the group's offsets inside the transaction), state in dicts, the collector kept out.
`python -m tests.bench.peers.bare_loop` runs it, with the same settings as the worker.
"""

import gc
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from pipeline.bootstrap import load_core
from pipeline.kafka import (
    Consumer,
    Logged,
    Message,
    Producer,
    admin,
    consumer,
    logged,
    producer,
    topic_id,
    topic_name,
)
from pipeline.metering import Batch, Core, Folded, initial_cursor
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, encode_cursor, pack_identities
from schemas.topics import ACCOUNT_EVENTS, IDENTITIES, changelog
from tests.bench.peers.state import PartitionState

BATCH_RECORDS_MAX: Final = 10_000
"""Of all partitions together; the worker's largest is as large, of one partition."""
POLL_SECONDS: Final = 0.05
TRANSACTION_SECONDS_MAX: Final = 30
COLLECT_RECORDS: Final = 1_000_000


class BareLoop:
    """One consumer, one transactional producer, one thread."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._changelog = topic_name(settings.kafka, changelog(settings.worker.app_id))
        self._core: Core = load_core(settings)
        self._topic_id = topic_id(
            admin(settings.kafka), topic_name(settings.kafka, ACCOUNT_EVENTS), timeout_seconds=30
        )
        self._states: dict[int, PartitionState] = {}
        self._consumer: Consumer = consumer(
            settings.kafka, group_id=settings.worker.app_id, **{"auto.offset.reset": "earliest"}
        )
        self._producer: Producer = producer(settings.kafka, transactional_id=settings.worker.app_id)

    def run(self) -> None:
        """Until the process is ended, which loses nothing."""
        gc.disable()
        self._producer.init_transactions(TRANSACTION_SECONDS_MAX)
        self._consumer.subscribe([topic_name(self._kafka, ACCOUNT_EVENTS)])
        uncollected = 0
        while True:
            messages = self._consumer.consume(BATCH_RECORDS_MAX, POLL_SECONDS)
            if messages:
                self._meter(messages)
            uncollected += len(messages)
            if uncollected >= COLLECT_RECORDS:
                uncollected = 0
                gc.collect()

    def _meter(self, messages: Sequence[Message]) -> None:
        self._producer.begin_transaction()
        committed: list[tuple[PartitionState, Folded]] = []
        for partition, records in _by_partition(messages).items():
            state = self._state(partition)
            batch = Batch(self._core, state.view())
            batch.feed(records)
            folded = batch.finish()
            self._produce(partition, folded)
            committed.append((state, folded))
        self._producer.commit_transaction(TRANSACTION_SECONDS_MAX)
        for state, folded in committed:
            state.apply(folded)

    def _state(self, partition: int) -> PartitionState:
        if partition not in self._states:
            cursor = initial_cursor(self._core, self._topic_id)
            self._states[partition] = PartitionState(partition=partition, cursor=cursor)
        return self._states[partition]

    def _produce(self, partition: int, folded: Folded) -> None:
        clock, rows = folded.cursor.clock_ms, self._changelog
        produce, prefix = self._producer.produce, self._kafka.topic_prefix
        # By position, because confluent's keywords take half as long again.
        for topic, key, value, timestamp in folded.records:
            produce(prefix + topic, value, key, partition, None, None, timestamp)
        if folded.identities:
            packed = pack_identities(folded.identities)
            produce(prefix + IDENTITIES, packed, None, partition, None, None, clock)
        for key, row in folded.accounts.items():
            produce(rows, row, key, partition, None, None, clock)
        produce(rows, encode_cursor(folded.cursor), CURSOR_KEY, partition, None, None, clock)


def _by_partition(messages: Sequence[Message]) -> dict[int, list[Logged]]:
    grouped: defaultdict[int, list[Logged]] = defaultdict(list)
    for message in messages:
        assert message.error() is None, message.error()
        grouped[message.partition() or 0].append(logged(message))
    return grouped


if __name__ == "__main__":
    BareLoop(Settings()).run()
