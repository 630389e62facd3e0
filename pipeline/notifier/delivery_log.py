"""The deliveries of one partition on Kafka: written in one transaction with the position in the inputs, read back.

Opening it fences whoever wrote the partition before, so what is read then is the newest there will be. Beside the
inputs' positions the group keeps one in the deliveries' own topic: below it nothing is open, so a start reads little.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from pydantic import ConfigDict

from pipeline.domain.instants import as_instant
from pipeline.kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
    consumer,
    producer,
    topic_name,
)
from pipeline.notifications.deliveries import OPEN
from pipeline.settings import Settings
from schemas.alert_delivery import AlertDelivery
from schemas.topics import ALERT_DELIVERIES

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""The broker aborts a dead notifier's transaction after this, or when the next owner fences."""
FENCE_TIMEOUT_SECONDS: Final = 30
COMMIT_TIMEOUT_SECONDS: Final = 30
READ_TIMEOUT_SECONDS: Final = 60

OpenDeliveries = dict[str, tuple[AlertDelivery, int]]
"""Delivery id → its newest state, and the offset where that stands."""


class DeliveryLog:
    """One partition of the deliveries' topic. Opening it is the fence."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._kafka = settings.kafka
        self._partition = partition
        self.topic = topic_name(settings.kafka, ALERT_DELIVERIES)
        self._producer: Producer = producer(
            settings.kafka,
            transactional_id=f"{settings.worker.app_id}-notifier-{partition}",
            **{"transaction.timeout.ms": TRANSACTION_TIMEOUT_MS, "linger.ms": 0},
        )
        self._producer.init_transactions(FENCE_TIMEOUT_SECONDS)

    def write(
        self, states: Sequence[AlertDelivery], positions: Mapping[str, int], member: Consumer
    ) -> list[int] | None:
        """Make these the newest states, and move the group's positions (topic → next offset): all of it or nothing.

        The states' offsets; None when the transaction was aborted and may be tried again. Raises KafkaException when
        another owns the partition, and when nobody knows how it ended.
        """
        offsets: dict[int, int] = {}
        places = [TopicPartition(topic, self._partition, offset) for topic, offset in positions.items()]
        try:
            self._producer.begin_transaction()
            for index, state in enumerate(states):
                self._producer.produce(
                    self.topic,
                    key=state.account_id.encode(),
                    value=state.model_dump_json().encode(),
                    partition=self._partition,
                    # ClickHouse's partitions are months of this instant, and a block may not span two.
                    timestamp=as_instant(state.accepted_at),
                    on_delivery=_reporter(offsets, index),
                )
            self._producer.flush(COMMIT_TIMEOUT_SECONDS)  # The reports, and with them the offsets.
            metadata = member.consumer_group_metadata()
            self._producer.send_offsets_to_transaction(places, metadata, COMMIT_TIMEOUT_SECONDS)
            self._producer.commit_transaction(COMMIT_TIMEOUT_SECONDS)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            self._producer.abort_transaction(COMMIT_TIMEOUT_SECONDS)
            return None
        return [offsets[index] for index in range(len(states))]

    def read(self, begin: int) -> OpenDeliveries:
        """What is open, from an offset below which nothing is."""
        options: dict[str, Any] = {
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "auto.offset.reset": "earliest",  # What retention took was open no longer.
        }
        found: OpenDeliveries = {}
        with closing(consumer(self._kafka, **options)) as reader:
            reader.assign([TopicPartition(self.topic, self._partition, begin)])
            while (message := reader.poll(READ_TIMEOUT_SECONDS)) is not None:
                error = message.error()
                if error is None:
                    _fold(found, message)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                    return found
                else:
                    raise KafkaException(error)
        raise TimeoutError(f"expected the end of {self.topic} partition {self._partition}")


class _Growing(AlertDelivery):
    """As a later release may have written it."""

    model_config = ConfigDict(extra="ignore")


def read_delivery(value: bytes) -> AlertDelivery:
    """A state of a delivery, without what this release does not know."""
    return AlertDelivery.model_construct(**dict(_Growing.model_validate_json(value)))


def _fold(found: OpenDeliveries, message: Message) -> None:
    state = read_delivery(message.value() or b"")
    if state.status in OPEN:
        found[state.delivery_id] = state, message.offset() or 0
    else:
        found.pop(state.delivery_id, None)


def _reporter(offsets: dict[int, int], index: int) -> Any:  # noqa: ANN401  (as confluent-kafka has callbacks)
    def on_delivery(_error: KafkaError | None, message: Message) -> None:
        offsets[index] = message.offset() or 0

    return on_delivery
