"""Writes and reads the plans of one partition, and fences everyone who did so before.

Fencing comes first: after `init_transactions` no earlier owner can write another plan, so the newest plan that
is read then is the newest there will be. An earlier owner that still inserts, inserts that plan or an older one,
under a token that the tables remember.
"""

import time
from typing import Any, Final

from pipeline.kafka import (
    Consumer,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
    consumer,
    producer,
    topic_name,
)
from pipeline.settings import Settings
from schemas.sink_plan import SinkPlan
from schemas.topics import SINK_PLANS

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""One small record. The broker aborts a dead sink's transaction after this, or when the next owner fences."""
READ_TIMEOUT_SECONDS: Final = 30
TAIL_OFFSETS: Final = 256
"""How far from its end the topic is read first: each plan takes two offsets, the record and its marker."""


def reader_of(settings: Settings) -> Consumer:
    """A consumer outside of the group: the group's own answers no questions while it is being assigned."""
    options: dict[str, Any] = {"auto.offset.reset": "earliest", "enable.partition.eof": True}
    return consumer(settings.kafka, **options)


class PlanLog:
    """The plans of one partition. Opening it is the fence."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self._topic = topic_name(settings.kafka, SINK_PLANS)
        self._producer: Producer = producer(
            settings.kafka,
            transactional_id=f"{settings.worker.app_id}-sink-{partition}",
            **{"transaction.timeout.ms": TRANSACTION_TIMEOUT_MS, "linger.ms": 0},
        )
        self._producer.init_transactions(settings.sink.fence_timeout_seconds)

    def write(self, plan: SinkPlan) -> None:
        """Make `plan` the newest. Any error is raised: whether it was written is then not known."""
        self._producer.begin_transaction()
        self._producer.produce(
            self._topic,
            key=str(self._partition).encode(),
            value=plan.model_dump_json().encode(),
            partition=self._partition,
        )
        self._producer.commit_transaction(self._settings.sink.plan_timeout_seconds)

    def newest(self, reader: Consumer) -> SinkPlan | None:
        """The newest plan that was committed, or None when this partition never had one."""
        where = TopicPartition(self._topic, self._partition)
        low, high = reader.get_watermark_offsets(where, timeout=READ_TIMEOUT_SECONDS)
        reach = TAIL_OFFSETS
        # Aborted transactions and compaction can leave the tail without a plan: look further back.
        while True:
            start = max(low, high - reach)
            plan = self._last_from(reader, start)
            if plan is not None or start == low:
                return plan
            reach *= 16

    def _last_from(self, reader: Consumer, start: int) -> SinkPlan | None:
        reader.assign([TopicPartition(self._topic, self._partition, start)])
        deadline = time.monotonic() + READ_TIMEOUT_SECONDS
        last: Message | None = None
        while time.monotonic() < deadline:
            message = reader.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                last = message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
                value = last.value() if last is not None else None
                return SinkPlan.model_validate_json(value) if value is not None else None
            else:
                raise RuntimeError(f"cannot read {self._topic} partition {self._partition}: {error}")
        raise TimeoutError(
            f"expected the end of {self._topic} partition {self._partition} within {READ_TIMEOUT_SECONDS} s"
        )
