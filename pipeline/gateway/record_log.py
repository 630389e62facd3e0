"""Small topics from outside a gateway, as the command line has them: records written, or all of them read."""

from collections.abc import Callable
from typing import Any, Final

from pipeline.client.publisher import DeliveryError
from pipeline.gateway.tail import offsets
from pipeline.kafka import (
    QUIET,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    drain,
    producer,
    topic_name,
)
from pipeline.settings import Settings

POLL_SECONDS: Final = 0.5


def write(settings: Settings, topic: str, *records: tuple[bytes, bytes]) -> None:
    """Publish (key, value) records. Raises DeliveryError."""
    options: dict[str, Any] = {"delivery.timeout.ms": settings.client.delivery_timeout_ms, **QUIET}
    client = producer(settings.kafka, **options)
    errors: list[KafkaError] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            errors.append(error)

    for key, value in records:
        client.produce(topic_name(settings.kafka, topic), value, key, on_delivery=told)
    client.flush()
    if errors:
        raise DeliveryError(errors[0], not_sent=len(errors), of=len(records))


def read(settings: Settings, topic: str, take: Callable[[bytes | None], None]) -> None:
    """Hand over the value of every record that there is now."""
    starts = offsets(settings, admin(settings.kafka), [topic_name(settings.kafka, topic)], "earliest")
    options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": 10, **QUIET}
    reader = consumer(settings.kafka, **options)
    reader.assign([TopicPartition(name, partition, offset) for (name, partition), offset in starts.items()])
    open_ends = len(starts)
    while open_ends:
        for message in drain(reader, 1000, POLL_SECONDS):
            error, value = message.error(), message.value()
            if error is None:
                take(value if isinstance(value, bytes) else None)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                open_ends -= 1
            else:
                raise KafkaException(error)
    reader.close()
