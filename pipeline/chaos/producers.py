"""Publishes the load as badly as producers do: out of order, and again whatever was not acknowledged in time.

The load itself has resends, conflicts, broken input and wrong clocks. What is added here depends on the moment, so the
log holds some records more than once: what was sent is remembered by a hash, and the log has to contain all of it.
"""

import time
from array import array
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from random import Random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import kafka
from pipeline.load import LoadRecord
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS

DELIVERY_TIMEOUT_MS: Final = 4000
"""Shorter than a broker is away: what is not acknowledged by then is sent again, and may have arrived all the same."""
DELIVERY_SECONDS_MAX: Final = 120
"""At the end, for all that is still to be acknowledged."""
SHUFFLED_SHARE: Final = 0.1
"""Of groups of records that are published in any order."""
QUEUE_RECORDS_MAX: Final = 20_000
"""Not yet acknowledged; beyond it publishing waits."""
OWN_SOURCES: Final = b'"source":"//creditstream/'
"""Of ticks and of what the late lane puts back: in the log without any producer having sent it."""


class Producers:
    """Publishes, and remembers what."""

    def __init__(self, settings: Settings, seed: int) -> None:
        options: dict[str, Any] = {
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "linger.ms": 5,
            "log_level": "0",
        }
        self._producer = kafka.producer(settings.kafka, **options)
        self._topic = kafka.topic_name(settings.kafka, ACCOUNT_EVENTS)
        self._chance = Random(seed)  # noqa: S311  (a run must repeat, not be secret)
        self._again: deque[LoadRecord] = deque()
        self.sent = array("Q")
        self.resent = 0

    def publish(self, records: list[LoadRecord]) -> None:
        """These, and what timed out before."""
        if self._chance.random() < SHUFFLED_SHARE:
            self._chance.shuffle(records)
        for record in records:
            self.sent.append(digest(record))
            self._send(record)
        self._resend()

    def wait(self, seconds: float) -> None:
        """Let acknowledgements and timeouts arrive."""
        self._producer.poll(seconds)

    def finish(self) -> None:
        """Until everything is acknowledged. Raises TimeoutError."""
        until = time.monotonic() + DELIVERY_SECONDS_MAX
        while self._producer.flush(1) or self._again:
            self._resend()
            if time.monotonic() > until:
                raise TimeoutError(f"expected every record acknowledged within {DELIVERY_SECONDS_MAX} s")

    def _resend(self) -> None:
        for _ in range(len(self._again)):
            self.resent += 1
            self._send(self._again.popleft())

    def _send(self, record: LoadRecord) -> None:
        while len(self._producer) >= QUEUE_RECORDS_MAX:
            self._producer.poll(0.1)

        def told(error: kafka.KafkaError | None, _message: kafka.Message) -> None:
            if error is not None:
                self._again.append(record)

        headers: list[tuple[str, str | bytes | None]] = list(record.headers)
        self._producer.produce(self._topic, record.value, record.key, headers=headers, on_delivery=told)


def digest(record: LoadRecord) -> int:
    """Eight bytes of a hash over all that a record consists of."""
    content = (
        record.key or b"",
        record.value,
        *(part for name, value in record.headers for part in (name.encode(), value)),
    )
    return int.from_bytes(blake2b(b"\0".join(content), digest_size=8).digest(), "big")


def log_differences(settings: Settings, sent: Iterable[int]) -> tuple[int, int, int]:
    """How many records that were sent are missing in the log, how many stand there more often than they were sent,
    and how many nobody has sent."""
    log, found = Log(settings.kafka), array("Q")
    for partition in range(settings.kafka.partitions):
        for message in log.messages(ACCOUNT_EVENTS, partition):
            value = message.value() or b""
            if OWN_SOURCES not in value:
                headers = [(name, content or b"") for name, content in kafka.headers_of(message)]
                found.append(digest(LoadRecord(message.key(), value, tuple(headers))))
    log.close()
    wanted_ids, wanted = _counted(array("Q", sent))
    found_ids, have = _counted(found)
    known = np.isin(found_ids, wanted_ids)
    counts = np.zeros(len(wanted_ids), dtype=np.int64)
    counts[np.searchsorted(wanted_ids, found_ids[known])] = have[known]
    missing = int(np.maximum(wanted - counts, 0).sum())
    return missing, int(np.maximum(counts - wanted, 0).sum()), int(have[~known].sum())


def _counted(digests: "array[int]") -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    ids, counts = np.unique(np.array(digests, dtype=np.uint64), return_counts=True)
    return ids, counts.astype(np.int64)
