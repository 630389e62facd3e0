"""Publishes from asyncio: awaits Kafka's word on each record, a bounded number at a time.

What was acknowledged is durable. What was not may stand in the log all the same, so it is sent again under its own
id and counts once.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from pipeline.client.publisher import Delivered
from pipeline.gateway.problems import ProblemError
from pipeline.kafka import QUIET, KafkaError, KafkaException, Message, producer, topic_name
from pipeline.settings import Settings
from pipeline.tracing import publishing, traceparent, with_trace
from schemas.topics import ACCOUNT_EVENTS

_LOG: Final = logging.getLogger(__name__)
_STRUCTURED_MODE: Final[list[tuple[str, str | bytes | None]]] = [
    ("content-type", b"application/cloudevents+json; charset=utf-8")
]
POLL_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
"""What a caller is told to wait when the queue is full."""
FLUSH_MARGIN_SECONDS: Final = 5
"""Beyond the delivery timeout, after which every record has a report."""


class NotAcknowledged(NamedTuple):
    """Kafka did not take it, or did not say so in time."""

    detail: str


Report: TypeAlias = Delivered | NotAcknowledged


class LogPublisher:
    """One idempotent producer, with a thread that hears its reports."""

    def __init__(self, settings: Settings) -> None:
        gateway = settings.gateway
        options: dict[str, Any] = {
            "linger.ms": 0,  # A hold waits for nothing; batches come as batches.
            "queue.buffering.max.messages": gateway.in_flight_events_max,
            "delivery.timeout.ms": gateway.delivery_timeout_ms,
            **QUIET,
        }
        self._kafka = settings.kafka
        self._flush_seconds = gateway.delivery_timeout_ms / 1000 + FLUSH_MARGIN_SECONDS
        self._most = gateway.in_flight_events_max
        self._producer = producer(settings.kafka, **options)
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)
        self._poller.start()
        self.in_flight = 0
        """Records without a report. Changed in the loop's thread only."""
        self.is_broken = False
        """After an error that ends a producer for good: then the process must end."""

    async def publish(
        self, records: Sequence[tuple[bytes, bytes]], topic: str = ACCOUNT_EVENTS
    ) -> list[Report]:
        """Send (key, value) records in their order and wait for the report on each.

        Raises the problem `busy` when too many wait already. A caller that goes away does not take them back.
        """
        if self.in_flight + len(records) > self._most:
            raise ProblemError("busy", "too many events wait for Kafka", retry_after=RETRY_SECONDS)
        if not records:
            return []
        self.in_flight += len(records)
        reports = _Reports(len(records), self._finished)
        with publishing(topic):
            self._produce(records, topic, reports)
            await asyncio.shield(reports.complete)
        return reports.said

    def _produce(self, records: Sequence[tuple[bytes, bytes]], topic: str, reports: "_Reports") -> None:
        name, headers = topic_name(self._kafka, topic), with_trace(_STRUCTURED_MODE, traceparent())
        for index, (key, value) in enumerate(records):
            try:
                self._producer.produce(
                    name, value, key, headers=headers, on_delivery=self._reporter(reports, index)
                )
            except (BufferError, KafkaException) as error:
                reports.take(index, NotAcknowledged(str(error)))

    def _finished(self, count: int) -> None:
        self.in_flight -= count

    def _reporter(self, reports: "_Reports", index: int) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self.is_broken = self.is_broken or error.fatal()
                reports.take(index, NotAcknowledged(error.str()))
                return
            partition, offset = message.partition(), message.offset()
            assert partition is not None, "an acknowledged record has a partition"
            assert offset is not None, "an acknowledged record has an offset"
            reports.take(index, Delivered(partition, offset))

        return on_delivery

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(POLL_SECONDS)

    def close(self) -> None:
        """Wait for the reports that are still to come. Blocks up to the delivery timeout."""
        left = self._producer.flush(self._flush_seconds)
        if left:
            _LOG.error("%d records have no report after the delivery timeout", left)
        self._closing.set()
        self._poller.join()


class _Reports:
    """Collects the reports of one call, from whichever thread."""

    def __init__(self, count: int, finished: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._finished = finished
        self._lock = threading.Lock()
        self._left = count
        self.said: list[Report] = [NotAcknowledged("")] * count
        self.complete: asyncio.Future[None] = self._loop.create_future()

    def take(self, index: int, said: Report) -> None:
        with self._lock:
            self.said[index] = said
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._loop.call_soon_threadsafe(self._done)

    def _done(self) -> None:
        self._finished(len(self.said))
        self.complete.set_result(None)
