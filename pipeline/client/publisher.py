"""Publishes events and waits for the broker's word on each: acknowledged with its position, or not sent.

An acknowledged event is durable and stands in the log exactly once (idempotent producer, acks=all). The account's
murmur2 decides the partition, as every other producer of this log must.
"""

import time
from collections.abc import Callable, Iterable
from itertools import chain, repeat
from typing import Any, Final, NamedTuple, Self, TypeAlias

from pipeline.client.events import STRUCTURED_MODE
from pipeline.kafka import QUIET, KafkaError, KafkaException, Message, producer, topic_name
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS

_FULL_QUEUE_POLL_SECONDS: Final = 0.1
Report: TypeAlias = Callable[[KafkaError | None, Message], None]


class Delivered(NamedTuple):
    """Where an acknowledged event stands in the log. Its outcome names the same position."""

    partition: int
    offset: int


class DeliveryError(Exception):
    """The broker refused an event for good, or did not acknowledge it in time."""

    def __init__(self, error: KafkaError, *, not_sent: int, of: int) -> None:
        super().__init__(f"{not_sent} of {of} events not acknowledged, the first because: {error.str()}")
        self.is_refusal = error.code() in {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG}
        """Whether the event is at fault and not the broker: another try would end the same."""


class Publisher:
    """One producer of account events. Close it, or use it in a `with`."""

    def __init__(self, settings: Settings) -> None:
        self._topic = topic_name(settings.kafka, ACCOUNT_EVENTS)
        self._timeout_seconds = settings.client.delivery_timeout_ms / 1000
        options: dict[str, Any] = {
            "queue.buffering.max.messages": settings.client.queue_events_max,
            "delivery.timeout.ms": settings.client.delivery_timeout_ms,
            **QUIET,
        }
        self._producer = producer(settings.kafka, **options)

    def publish(self, key: bytes | None, value: bytes) -> Delivered:
        """Send one event and wait until it is acknowledged. Raises DeliveryError."""
        return self.publish_all([(key, value)])[0]

    def publish_all(
        self, events: Iterable[tuple[bytes | None, bytes]], *, dates_ms: Iterable[int] = ()
    ) -> list[Delivered]:
        """Send events in their order and wait until all are acknowledged. Raises DeliveryError.

        `dates_ms`: what the records' timestamps shall be, in epoch milliseconds; the broker puts its own clock over
        them unless the log is being dated back (`pipeline.demo.backdating`).
        """
        reports: list[Delivered | KafkaError | None] = []
        for (key, value), date_ms in zip(events, chain(dates_ms, repeat(0))):  # noqa: B905  (the second has no end)
            reports.append(None)
            self._enqueue(key, value, _reporter(reports, len(reports) - 1), date_ms)
        self._producer.flush()  # Ends by itself: what is not acknowledged fails after delivery_timeout_ms.
        delivered = [each for each in reports if isinstance(each, Delivered)]
        errors = [each for each in reports if isinstance(each, KafkaError)]
        if errors:
            raise DeliveryError(errors[0], not_sent=len(errors), of=len(reports))
        assert len(delivered) == len(reports), "flush returned before every delivery report"
        return delivered

    def _enqueue(self, key: bytes | None, value: bytes, report: Report, date_ms: int) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=STRUCTURED_MODE, on_delivery=report, timestamp=date_ms
                )
            except BufferError:
                if time.monotonic() > deadline:
                    raise
                self._producer.poll(_FULL_QUEUE_POLL_SECONDS)
            except KafkaException as error:  # Too large for any topic of ours: no broker was asked.
                raise DeliveryError(error.args[0], not_sent=1, of=1) from error
            else:
                self._producer.poll(0)
                return

    def close(self) -> None:
        """Nothing is left to send: `publish_all` waited for everything."""
        self._producer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reporter(reports: list[Delivered | KafkaError | None], index: int) -> Report:
    def report(error: KafkaError | None, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if error is None:
            assert partition is not None, "an acknowledged event has a partition"
            assert offset is not None, "an acknowledged event has an offset"
        reports[index] = error if error is not None else Delivered(partition or 0, offset or 0)

    return report
