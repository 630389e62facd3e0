"""Says everything a batch decided in one Kafka transaction, whose last record is the cursor."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from pipeline.crash_points import Phase, reached
from pipeline.kafka import KafkaError, Message, Producer, topic_name
from pipeline.metering import Folded
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, IDENTITY_BYTES, encode_cursor, pack_identities
from pipeline.tracing import NO_TRACES, Traces
from schemas.topics import (
    BATCH_OUTPUTS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    IDENTITIES,
    METERED_RECORDS,
    changelog,
)

IDENTITIES_PER_RECORD_MAX: Final = 20_000
"""One packed record: 49 bytes each, so just under 1 MB, a quarter of what the topic takes."""
OUTCOMES: Final = frozenset({METERED_RECORDS, COMMAND_RESULTS, DEAD_LETTERS})
"""What the trace of a record of the log goes on with."""
QUEUE_FULL_SECONDS_MAX: Final = 30
"""How long a full producer queue is waited for; then the broker is too slow, and the process ends."""
QUEUE_FULL_POLL_SECONDS: Final = 0.05

Delivered: TypeAlias = Callable[[KafkaError | None, Message], None]


class Transaction:
    """Commits batches of one partition, one after the other. Every record goes to that same partition number."""

    def __init__(self, settings: Settings, partition: int, producer: Producer) -> None:
        worker = settings.worker
        self._partition = partition
        self._producer = producer
        self._changelog = changelog(worker.app_id)
        self._position = 0
        self._commit_seconds_max = worker.commit_timeout_seconds
        written = (*BATCH_OUTPUTS, IDENTITIES, self._changelog)
        self._names = {name: topic_name(settings.kafka, name) for name in written}

    def commit(self, folded: Folded, traces: Traces = NO_TRACES) -> int:
        """Blocks until the batch is durable; returns a position of the changelog up to which all is known that this
        partition has committed. Any exception leaves open whether the batch is: the process must end."""
        log, clock_ms = self._changelog, folded.cursor.clock_ms
        self._producer.begin_transaction()
        self._produce(folded.records, traces=traces)
        self._produce((IDENTITIES, None, packed, clock_ms) for packed in _packed(folded.identities))
        self._produce([(log, key, row, clock_ms) for key, row in folded.accounts.items()])
        self._produce([(log, key, content, clock_ms) for key, content in folded.published.items()])
        reached(Phase.WORKER_PRODUCING, self._partition)
        self._produce([(log, CURSOR_KEY, encode_cursor(folded.cursor), clock_ms)], self._delivered)
        reached(Phase.WORKER_COMMITTING, self._partition)
        self._producer.commit_transaction(self._commit_seconds_max)
        return self._position

    def _delivered(self, error: KafkaError | None, cursor: Message) -> None:
        """Called in the commit. A broker that has seen a record twice does not always say where it stands."""
        offset = cursor.offset()
        if error is None and offset is not None and offset >= 0:
            self._position = offset + 1

    def _produce(
        self,
        records: Iterable[tuple[str, bytes | None, bytes, int]],
        delivered: Delivered | None = None,
        *,
        traces: Traces = NO_TRACES,
    ) -> None:
        """Topic without prefix, key, value, timestamp in ms. By position: keywords take half as long again."""
        produce, names, partition = self._producer.produce, self._names, self._partition
        with_headers = frozenset[str]() if traces.is_empty else OUTCOMES
        for topic, key, value, timestamp_ms in records:
            headers = traces.header_of(value) if topic in with_headers else None
            try:
                produce(names[topic], value, key, partition, delivered, None, timestamp_ms, headers)
            except BufferError:
                self._produce_patiently(
                    (names[topic], value, key, partition, delivered, None, timestamp_ms, headers)
                )

    def _produce_patiently(self, record: tuple[Any, ...]) -> None:
        give_up_at = time.monotonic() + QUEUE_FULL_SECONDS_MAX
        while True:
            self._producer.poll(QUEUE_FULL_POLL_SECONDS)
            try:
                self._producer.produce(*record)
            except BufferError:
                if time.monotonic() > give_up_at:
                    raise
            else:
                return


def _packed(identities: Mapping[bytes, bytes]) -> Iterator[bytes]:
    packed, size_max = pack_identities(identities), IDENTITIES_PER_RECORD_MAX * IDENTITY_BYTES
    for start in range(0, len(packed), size_max):
        yield packed[start : start + size_max]
