"""Opens Kafka clients with every option stated. The one importer of confluent-kafka.

Defaults of librdkafka change between versions, ours must not: what correctness rests on is passed here.
"""

import ctypes
import logging
from collections.abc import Iterable, Sequence
from operator import methodcaller
from typing import Any, Final, Literal, NamedTuple, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs do not say that it re-exports
    AdminClient,
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]  # as above
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]  # as above
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]  # as above
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from pipeline.kafka_settings import KafkaSettings

__all__ = [
    "OFFSET_BEGINNING",
    "QUIET",
    "TIMESTAMP_NOT_AVAILABLE",
    "AdminClient",
    "AlterConfigOpType",
    "ConfigEntry",
    "ConfigResource",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Logged",
    "Message",
    "NewTopic",
    "Producer",
    "ResourceType",
    "TopicPartition",
    "abandon",
    "admin",
    "consumer",
    "drain",
    "headers_of",
    "list_offsets",
    "logged",
    "offsets_at",
    "producer",
    "topic_id",
    "topic_name",
    "watermarks",
]

_LOGGER: Final = logging.getLogger("librdkafka")
"""What a client says of its own accord becomes a line of our log when the client is next polled; left alone it would
write to stderr, in a form that is neither our text nor our JSON."""
QUIET: Final[dict[str, Any]] = {"log_level": 2}
"""For a client whose every trouble comes as an error that we raise: a person reads it once. And for one that nobody
polls: its lines would wait in memory."""
MESSAGE_BYTES_MAX: Final = 4_194_304
"""As large as the largest topic allows (`schemas.topics.RECORD_BYTES_MAX`)."""
QUEUE_MESSAGES_MAX: Final = 500_000
"""Of one producer, several times the records of the largest batch: a full queue is an error, not a wait."""


def topic_name(kafka: KafkaSettings, name: str) -> str:
    """The topic's name on this deployment's cluster."""
    return kafka.topic_prefix + name


_headers: Final = methodcaller("headers")
"""Its C code may return a list and leave an error behind. A call from Python's own code, once that is hot, looks at the
list alone, and the error comes out of whatever is called next; this way the call itself raises."""


def headers_of(message: Message) -> list[tuple[str, bytes | None]]:
    """The record's headers; none when a name among them is no UTF-8, which confluent-kafka 2.16 cannot say."""
    try:
        return cast("list[tuple[str, bytes | None]]", _headers(message) or [])
    except (SystemError, UnicodeDecodeError):  # The first is what Python makes of the second.
        return []


class Logged(NamedTuple):
    """One record of the input log as the core reads it (`pipeline.validate.LogRecord`)."""

    offset: int
    timestamp: int
    """The broker's append time in ms."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def logged(message: Message) -> Logged:
    """A record that was read, so that it has an offset."""
    offset = message.offset()
    assert offset is not None, f"expected a record of a log, got {message!r}"
    return Logged(offset, message.timestamp()[1], message.key(), message.value(), headers_of(message))


def producer(kafka: KafkaSettings, *, transactional_id: str | None = None, **options: Any) -> Producer:
    """An idempotent producer that partitions as Java and aiokafka do; transactional when an id is given."""
    config: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        # librdkafka's own default (crc32) would split an account over two workers.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        # With librdkafka's 100 ms a commit that meets a busy coordinator waits ten times its own length.
        "retry.backoff.ms": 5,
        "reconnect.backoff.ms": 250,  # A broker that is away is asked for, and logged, four times a second.
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
        "queue.buffering.max.kbytes": 524_288,
        "logger": _LOGGER,
        **kafka.client_options,
        **options,
    }
    if transactional_id is not None:
        config["transactional.id"] = kafka.topic_prefix + transactional_id
    return Producer(config)


def abandon(producer: Producer) -> None:
    """Leave a producer that a fork has copied. Its threads stayed in the parent: its end waits for them, a second at
    best, at times for ever."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


def consumer(kafka: KafkaSettings, *, group_id: str | None = None, **options: Any) -> Consumer:
    """A read-committed consumer that never commits by itself. Without a group it is for `assign` only."""
    return Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": kafka.topic_prefix + (group_id or "unused"),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "fetch.max.bytes": 52_428_800,
            "message.max.bytes": MESSAGE_BYTES_MAX,
            "logger": _LOGGER,
            **kafka.client_options,
            **options,
        }
    )


def drain(consumer: Consumer, count_max: int, seconds_max: float) -> list[Message]:
    """What the client has, at most `count_max`; only for the first record or error does it wait so long.

    `consume` with that time waits until it has all of them, at the end of a partition always in vain.
    """
    first = consumer.poll(seconds_max)
    return [] if first is None else [first, *consumer.consume(count_max - 1, 0)]


def admin(kafka: KafkaSettings, **options: Any) -> AdminClient:
    """For topics: create, describe, check. Nobody polls it."""
    return AdminClient(
        {"bootstrap.servers": kafka.bootstrap_servers, **QUIET, **kafka.client_options, **options}
    )


def topic_id(client: AdminClient, topic: str, *, timeout_seconds: float) -> str:
    """The id the broker gave a topic when it was created: a topic deleted and created anew has another."""
    described = client.describe_topics(TopicCollection([topic]), request_timeout=timeout_seconds)
    return str(described[topic].result(timeout=timeout_seconds).topic_id)


def list_offsets(
    client: AdminClient,
    places: Iterable[TopicPartition],
    which: Literal["earliest", "latest"],
    *,
    timeout_seconds: float,
    uncommitted: bool = False,
) -> dict[tuple[str, int], int]:
    """Where partitions begin or end, all in one question; the end as a read-committed reader sees it, or with what is
    not committed. Raises KafkaException, also where a broker says neither an offset nor an error: its disk failed."""
    spec: OffsetSpec = OffsetSpec.earliest() if which == "earliest" else OffsetSpec.latest()  # type: ignore[no-untyped-call]
    answers = client.list_offsets(
        {place: spec for place in places},  # noqa: C420  (fromkeys loses the value's type)
        isolation_level=IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED,
        request_timeout=timeout_seconds,
    )
    offsets = {
        (place.topic, place.partition): answer.result(timeout=timeout_seconds).offset
        for place, answer in answers.items()
    }
    for (topic, partition), offset in offsets.items():
        if offset < 0:
            words = f"the broker does not say at which offset partition {partition} of {topic} begins or ends"
            raise KafkaException(KafkaError(KafkaError.KAFKA_STORAGE_ERROR, words))
    return offsets


def watermarks(
    client: Consumer,
    asker: AdminClient,
    place: TopicPartition,
    *,
    timeout_seconds: float,
    uncommitted: bool = False,
) -> tuple[int, int]:
    """The first offset of a partition and the one after the last that its reader may see. Raises KafkaException.

    A broker whose disk has just failed says where a partition ends, not where it begins, and calls that no error until
    it ends itself: librdkafka then takes the whole partition for empty, and whoever loads it would begin anew. So what
    seems empty is asked about once more, each side by itself.
    """
    bounds = client.get_watermark_offsets(place, timeout=timeout_seconds)
    assert bounds is not None, "watermarks were asked for with a timeout: they came, or it raised"
    low, high = bounds
    if low < high:
        return low, high
    (low,) = list_offsets(asker, [place], "earliest", timeout_seconds=timeout_seconds).values()
    (high,) = list_offsets(
        asker, [place], "latest", timeout_seconds=timeout_seconds, uncommitted=uncommitted
    ).values()
    return low, high


def offsets_at(
    client: Consumer, asker: AdminClient, places: Sequence[TopicPartition], *, timeout_seconds: float
) -> dict[tuple[str, int], int]:
    """The first offset whose record has a time or a later one, for places that carry the time in ms as their offset;
    without those that have none. Raises KafkaException.

    "None" is also the answer of a broker whose disk has failed (`watermarks`): once it says where the logs begin, it
    has not, and is believed.
    """

    def ask() -> dict[tuple[str, int], int]:
        answers = client.offsets_for_times(list(places), timeout=timeout_seconds)
        return {(each.topic, each.partition): each.offset for each in answers if each.offset >= 0}

    found = ask()
    if len(found) < len(places):
        list_offsets(asker, places, "earliest", timeout_seconds=timeout_seconds)
        found = ask()
    return found
