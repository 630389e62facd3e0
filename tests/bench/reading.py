"""Reads topics, read-committed: from their beginning to the end that they have now, or from that end on."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pipeline.kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    consumer,
    drain,
    topic_name,
)
from pipeline.settings import KafkaSettings

READ_RECORDS_MAX: Final = 10_000
READ_SECONDS: Final = 0.2
FETCH_WAIT_MS: Final = 10
"""Of a reader who waits for what comes."""
END_SECONDS_MAX: Final = 30


def read_to_end(kafka: KafkaSettings, topics: Sequence[str]) -> Iterator[Message]:
    """Every committed record of these topics, each partition in its order."""
    options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": 20}
    reader = consumer(kafka, **options)
    places = [
        TopicPartition(topic_name(kafka, topic), partition, 0)
        for topic in topics
        for partition in range(kafka.partitions)
    ]
    reader.assign(places)
    unended = {(place.topic, place.partition) for place in places}
    try:
        while unended:
            for message in drain(reader, READ_RECORDS_MAX, READ_SECONDS):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    unended.discard((message.topic() or "", message.partition() or 0))
                else:
                    raise KafkaException(error)
    finally:
        reader.close()


def from_the_end(kafka: KafkaSettings, topic: str) -> Consumer:
    """Who reads it from the end that each partition has now."""
    options: dict[str, Any] = {"fetch.wait.max.ms": FETCH_WAIT_MS}
    reader = consumer(kafka, **options)
    places = [TopicPartition(topic_name(kafka, topic), each) for each in range(kafka.partitions)]
    for place in places:
        place.offset = reader.get_watermark_offsets(place, timeout=END_SECONDS_MAX)[1]
    reader.assign(places)
    return reader
