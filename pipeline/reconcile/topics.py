"""Reading committed records of one topic partition, from its start to where it ends now."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from pipeline.kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition, consumer, topic_name
from pipeline.settings import KafkaSettings

READ_RECORDS: Final = 5000
"""Taken from the client at a time."""
READ_STALL_SECONDS_MAX: Final = 30
"""Without a record and without the end for this long, the broker is given up."""


def start_of(kafka: KafkaSettings, topic: str, partition: int) -> int:
    """The first offset that the broker still holds."""
    with _opened(kafka) as reader:
        where = TopicPartition(topic_name(kafka, topic), partition)
        low, _ = reader.get_watermark_offsets(where, timeout=READ_STALL_SECONDS_MAX)
    return int(low)


def messages(
    kafka: KafkaSettings, topic: str, partition: int, *, start: int | None = None
) -> Iterator[Message]:
    """All committed records up to the end at the time of reading, in order."""
    first = start_of(kafka, topic, partition) if start is None else start
    with _opened(kafka) as reader:
        reader.assign([TopicPartition(topic_name(kafka, topic), partition, first)])
        while True:
            batch = reader.consume(READ_RECORDS, timeout=READ_STALL_SECONDS_MAX)
            if not batch:
                raise TimeoutError(
                    f"expected records or the end of {topic} partition {partition} within "
                    f"{READ_STALL_SECONDS_MAX} s, got neither"
                )
            for message in batch:
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                    return
                else:
                    raise KafkaException(error)


def records(kafka: KafkaSettings, topic: str, partition: int, *, before: int) -> Iterator[dict[str, Any]]:
    """Our own JSON records whose cause stands before the input offset `before`."""
    for message in messages(kafka, topic, partition):
        record: dict[str, Any] = orjson.loads(message.value() or b"{}")
        if record["offset"] < before:
            yield record


def _opened(kafka: KafkaSettings) -> Consumer:
    return consumer(
        kafka,
        group_id="reconcile",
        **{"enable.partition.eof": True, "queued.max.messages.kbytes": 65_536},
    )


TAIL_OFFSETS: Final = 500
"""First guess of how far the last record may stand before the end: markers of transactions have offsets too."""


def last_cause(kafka: KafkaSettings, topic: str, partition: int, *, before: int) -> int:
    """The input offset of the topic's last record whose cause stands before `before`; -1 if there is none."""
    with _opened(kafka) as reader:
        where = TopicPartition(topic_name(kafka, topic), partition)
        low, high = reader.get_watermark_offsets(where, timeout=READ_STALL_SECONDS_MAX)
    back = TAIL_OFFSETS
    while True:
        start = max(low, high - back)
        offsets = [
            offset
            for message in messages(kafka, topic, partition, start=start)
            if (offset := int(orjson.loads(message.value() or b"{}")["offset"])) < before
        ]
        if offsets or start == low:
            return max(offsets, default=-1)
        back *= 8
