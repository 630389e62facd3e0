"""Reads topics from their beginning to the end that they have now, read-committed."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pipeline.kafka import KafkaError, KafkaException, Message, TopicPartition, consumer, drain, topic_name
from pipeline.settings import KafkaSettings

READ_RECORDS_MAX: Final = 10_000
READ_SECONDS: Final = 0.2


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
