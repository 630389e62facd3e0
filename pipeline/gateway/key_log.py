"""Keys from outside a gateway, as the command line has them: written to their topic, and read from it whole."""

from typing import Any, Final

from pipeline.client.commands import command_key
from pipeline.client.publisher import QUIET, DeliveryError
from pipeline.gateway.keys import EVERY_SCOPE, KeyRing, command_secrets, new_key
from pipeline.gateway.tail import offsets
from pipeline.kafka import (
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    producer,
    topic_name,
)
from pipeline.settings import Settings
from schemas.api_key import ApiKey
from schemas.topics import API_KEYS

POLL_SECONDS: Final = 0.5


def write(settings: Settings, *records: ApiKey) -> None:
    """Publish records of keys; every gateway follows within moments. Raises DeliveryError."""
    options: dict[str, Any] = {"delivery.timeout.ms": settings.client.delivery_timeout_ms, **QUIET}
    client = producer(settings.kafka, **options)
    errors: list[KafkaError] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            errors.append(error)

    for record in records:
        value, key = record.model_dump_json().encode(), record.key_id.encode()
        client.produce(topic_name(settings.kafka, API_KEYS), value, key, on_delivery=told)
    client.flush()
    if errors:
        raise DeliveryError(errors[0], not_sent=len(errors), of=len(records))


def write_demo_key(settings: Settings) -> None:
    """The local stack's own key, which may do everything; written at each start, the same each time."""
    signing = command_key(settings)
    assert signing is not None, "the local stack makes a command key with the demo key"
    key = settings.gateway.demo_key.get_secret_value()
    made = new_key(
        signing, name="demo", scopes=list(EVERY_SCOPE), accounts=None, created_by="creditstream up", key=key
    )
    if read(settings).get(made.record.key_id) is None:  # A revoked one stays so.
        write(settings, made.record)


def read(settings: Settings) -> KeyRing:
    """Every key that there is now."""
    ring = KeyRing(command_secrets(settings))
    starts = offsets(settings, admin(settings.kafka), [topic_name(settings.kafka, API_KEYS)], "earliest")
    options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": 10, **QUIET}
    reader = consumer(settings.kafka, **options)
    reader.assign([TopicPartition(name, partition, offset) for (name, partition), offset in starts.items()])
    open_ends = len(starts)
    while open_ends:
        for message in reader.consume(1000, POLL_SECONDS):
            error, value = message.error(), message.value()
            if error is None:
                ring.apply(value if isinstance(value, bytes) else None)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                open_ends -= 1
            else:
                raise KafkaException(error)
    reader.close()
    return ring
