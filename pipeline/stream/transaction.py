"""Says everything a batch decided in one Kafka transaction, whose last record is the cursor."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from pipeline.kafka import Producer, topic_name
from pipeline.metering import Folded
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, encode_cursor, pack_identities
from schemas.topics import IDENTITIES, changelog

IDENTITIES_PER_RECORD_MAX: Final = 20_000
"""One packed record: 49 bytes each, so just under 1 MB, a quarter of what the topic takes."""
QUEUE_FULL_SECONDS_MAX: Final = 30
"""How long a full producer queue is waited for; then the broker is too slow, and the process ends."""
QUEUE_FULL_POLL_SECONDS: Final = 0.05


class _Outgoing(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    timestamp_ms: int


class Transaction:
    """Commits batches of one partition, one after the other. Every record goes to that same partition number."""

    def __init__(self, settings: Settings, partition: int, producer: Producer) -> None:
        self._settings = settings
        self._partition = partition
        self._producer = producer
        self._names: dict[str, str] = {}

    def commit(self, folded: Folded) -> None:
        """Blocks until the batch is durable. Any exception leaves it open whether it is: the process must end."""
        self._producer.begin_transaction()
        produce, partition = self._producer.produce, self._partition
        for topic, key, value, timestamp_ms in self._outgoing(folded):
            try:
                produce(topic, value, key, partition, timestamp=timestamp_ms)
            except BufferError:
                self._produce_patiently(_Outgoing(topic, key, value, timestamp_ms))
        self._producer.commit_transaction(self._settings.worker.commit_timeout_seconds)

    def _outgoing(self, folded: Folded) -> Iterator[_Outgoing]:
        clock_ms = folded.cursor.clock_ms
        for topic, key, value, timestamp_ms in folded.records:
            yield _Outgoing(self._name(topic), key, value, timestamp_ms)
        for packed in _packed(folded.identities):
            yield _Outgoing(self._name(IDENTITIES), None, packed, clock_ms)
        log = self._name(changelog(self._settings.worker.app_id))
        for key, row in folded.accounts.items():
            yield _Outgoing(log, key, row, clock_ms)
        yield _Outgoing(log, CURSOR_KEY, encode_cursor(folded.cursor), clock_ms)

    def _produce_patiently(self, record: _Outgoing) -> None:
        give_up_at = time.monotonic() + QUEUE_FULL_SECONDS_MAX
        while True:
            self._producer.poll(QUEUE_FULL_POLL_SECONDS)
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, self._partition, timestamp=record.timestamp_ms
                )
            except BufferError:
                if time.monotonic() > give_up_at:
                    raise
            else:
                return

    def _name(self, topic: str) -> str:
        name = self._names.get(topic)
        if name is None:
            name = self._names[topic] = topic_name(self._settings.kafka, topic)
        return name


def _packed(identities: Mapping[bytes, bytes]) -> Iterator[bytes]:
    entries = iter(identities.items())
    while chunk := dict(islice(entries, IDENTITIES_PER_RECORD_MAX)):
        yield pack_identities(chunk)
