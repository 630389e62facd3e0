"""Writes and reads the plans of one partition, and fences everyone who did so before.

Fencing comes first: after `init_transactions` no earlier owner can write another plan, so the newest plan that
is read then is the newest there will be. An earlier owner that still inserts, inserts that plan or an older one,
under a token that the tables remember.
"""

import time
from contextlib import closing
from typing import Any, Final

from pipeline.crash_points import Phase, reached
from pipeline.kafka import (
    Consumer,
    KafkaError,
    Producer,
    TopicPartition,
    admin,
    consumer,
    list_offsets,
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
        reached(Phase.SINK_FENCING, partition)
        self._producer.init_transactions(settings.sink.fence_timeout_seconds)

    def newest(self, *, begins: int) -> SinkPlan | None:
        """The newest plan, or None when this partition never had one. `begins` is where the topic begins.

        A plan whose transaction hangs (`stream.settling` says how that comes) counts: its blocks may be stored. It is
        written again, which makes it the newest for every reader.
        """
        broker, place = admin(self._settings.kafka), TopicPartition(self._topic, self._partition)

        def end(*, uncommitted: bool) -> int:
            seconds = READ_TIMEOUT_SECONDS
            (offset,) = list_offsets(
                broker, [place], "latest", timeout_seconds=seconds, uncommitted=uncommitted
            ).values()
            return offset

        written = end(uncommitted=True)
        hangs = end(uncommitted=False) < written
        plan = newest_plan(self._settings, self._partition, begins=begins, ends=written, uncommitted=hangs)
        if hangs and plan is not None:
            self.write(plan)
        return plan

    def write(self, plan: SinkPlan) -> None:
        """Make `plan` the newest. Any error is raised: whether it was written is then not known."""
        self._producer.begin_transaction()
        self._producer.produce(
            self._topic,
            key=str(self._partition).encode(),
            value=plan.to_json(),
            partition=self._partition,
        )
        self._producer.commit_transaction(self._settings.sink.plan_timeout_seconds)


def newest_plan(
    settings: Settings, partition: int, *, begins: int, ends: int, uncommitted: bool = False
) -> SinkPlan | None:
    """The newest plan that was committed, or written at all, or None when this partition never had one.

    `begins` and `ends` are the topic's; to be the newest for good, `ends` is asked for after the fence.
    """
    topic = topic_name(settings.kafka, SINK_PLANS)
    options: dict[str, Any] = {
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        # The end is answered after this long; the group waits for it.
        "fetch.wait.max.ms": 10,
        "isolation.level": "read_uncommitted" if uncommitted else "read_committed",
    }
    reach = TAIL_OFFSETS
    with closing(consumer(settings.kafka, **options)) as reader:
        # Aborted transactions and compaction can leave the tail without a plan: look further back.
        while begins < ends:
            start = max(begins, ends - reach)
            reader.assign([TopicPartition(topic, partition, start)])
            last = _last_until_end(reader, f"{topic} partition {partition}")
            if last is not None:
                return SinkPlan.model_validate_json(last)
            ends, reach = start, reach * 16
    return None


def _last_until_end(reader: Consumer, where: str) -> bytes | None:
    deadline = time.monotonic() + READ_TIMEOUT_SECONDS
    last: bytes | None = None
    while time.monotonic() < deadline:
        message = reader.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            last = message.value()
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
            return last
        else:
            raise RuntimeError(f"cannot read {where}: {error}")
    raise TimeoutError(f"expected the end of {where} within {READ_TIMEOUT_SECONDS} s")
