"""The marks of the running reconciler on their topic: written after each turn, read by its successor and by people."""

from typing import Final

from pipeline.kafka import Producer, topic_name
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.reconcile_mark import ReconcileMark
from schemas.topics import RECONCILE_MARKS

FLUSH_SECONDS_MAX: Final = 30


def newest_marks(log: Log, settings: Settings) -> list[ReconcileMark]:
    """Of every partition that has one."""
    values = [
        log.newest(RECONCILE_MARKS, partition, str(partition).encode())
        for partition in range(settings.kafka.partitions)
    ]
    return [ReconcileMark.model_validate_json(value) for value in values if value is not None]


def write_marks(producer: Producer, settings: Settings, marks: list[ReconcileMark]) -> None:
    """Raises TimeoutError when the broker does not take them."""
    topic = topic_name(settings.kafka, RECONCILE_MARKS)
    for mark in marks:
        key, value = str(mark.partition).encode(), mark.model_dump_json().encode()
        producer.produce(topic, value, key, partition=mark.partition)
    if producer.flush(FLUSH_SECONDS_MAX):
        raise TimeoutError(f"expected {topic} to take {len(marks)} marks within {FLUSH_SECONDS_MAX} s")
