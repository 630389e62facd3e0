"""The sink's loop: reads the stored topics as one of a group, and keeps its partitions moving.

One thread polls for ever, so that a slow ClickHouse never costs the membership; plans and inserts run in a pool.
The assignor is RANGE over equal partition counts: partition p of every topic goes to one member. Positions
come from the plans; group offsets are committed for those who watch the lag, and nothing reads them here.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from pipeline import tracing
from pipeline.clickhouse import open_client
from pipeline.kafka import (
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
    consumer,
    headers_of,
    topic_name,
)
from pipeline.logs import log_to_stderr
from pipeline.settings import Settings
from pipeline.sink.insert import TABLES, Inserter
from pipeline.sink.opening import SinkRefusedError, open_partitions
from pipeline.sink.partition import SinkPartition, Tools
from pipeline.sink.plan import BlockLimits
from pipeline.stopping import stop_asked
from pipeline.telemetry import SINK_LAG, listen

POLL_MESSAGES_MAX: Final = 10_000
POLL_SECONDS: Final = 0.03
"""A part of the delay of every row, and the price of an idle sink: 30 empty turns a second."""
THREADS_MAX: Final = 8
FETCH_QUEUE_KBYTES: Final = 16_384
"""What librdkafka reads ahead, over all partitions."""
LAG_COMMIT_SECONDS: Final = 5.0
STOP_SECONDS_MAX: Final = 8
"""For what is in flight on SIGTERM. Longer is not needed for correctness: the plan stands in Kafka."""

_LOG: Final = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Store everything until SIGTERM or SIGINT. Any error is raised: the process ends and is started again."""
    log_to_stderr(settings.log)
    listen(settings.metrics)
    tracing.begin("sink", enabled=settings.tracing.enabled)
    serve(settings, stop_asked())


def serve(settings: Settings, stop: threading.Event) -> None:
    """As `run`, until `stop` is set."""
    pool = ThreadPoolExecutor(min(settings.kafka.partitions, THREADS_MAX), thread_name_prefix="sink")
    with closing(open_client(settings.clickhouse)) as client:
        tables = {topic_name(settings.kafka, topic): table for topic, table in TABLES.items()}
        inserter = Inserter(client, tables, attempts_max=settings.sink.insert_attempts_max)
        limits = BlockLimits(rows_max=settings.sink.batch_rows_max, bytes_max=settings.sink.batch_bytes_max)
        age_seconds_max = settings.sink.batch_age_ms_max / 1000
        tools = Tools(inserter=inserter, pool=pool, limits=limits, age_seconds_max=age_seconds_max)
        sink = Sink(settings, tools, list(tables))
        try:
            sink.work_until(stop)
        finally:
            sink.leave()
            pool.shutdown(wait=False, cancel_futures=True)


class Sink:
    """One member of the sink's group."""

    def __init__(self, settings: Settings, tools: Tools, topic_names: list[str]) -> None:
        self._settings = settings
        self._tools = tools
        self._topics = topic_names
        self._partitions: dict[int, SinkPartition] = {}
        self._paused: set[tuple[str, int]] = set()
        self._lag_committed_at = 0.0
        self._is_traced = tracing.is_on()
        self._consumer = consumer(
            settings.kafka,
            group_id=f"{settings.worker.app_id}-sink",
            **{
                "partition.assignment.strategy": "range",
                "session.timeout.ms": settings.sink.session_timeout_ms,
                "heartbeat.interval.ms": settings.sink.heartbeat_interval_ms,
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": FETCH_QUEUE_KBYTES,
                "fetch.wait.max.ms": 50,
            },
        )
        self._consumer.subscribe(
            topic_names, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def work_until(self, stop: threading.Event) -> None:
        """Poll, plan, insert. After `stop`, what is in flight is finished within a bound."""
        while not stop.is_set():
            for message in self._consumer.consume(POLL_MESSAGES_MAX, POLL_SECONDS):
                self._receive(message)
            now = time.monotonic()
            for partition in self._partitions.values():
                partition.step(now)
                self._hold_back(partition)
            self._commit_for_lag(now)
        until = time.monotonic() + STOP_SECONDS_MAX
        while any(partition.is_busy for partition in self._partitions.values()):
            if time.monotonic() > until:
                _LOG.warning("sink_stopped_during_insert: the next one repeats it under its token")
                # A thread of the pool would keep the process alive until its request ends.
                os._exit(0)
            self._consumer.poll(POLL_SECONDS)

    def leave(self) -> None:
        """Leave the group, so that the partitions go on at once."""
        self._forget_partitions()
        self._consumer.close()

    def _receive(self, message: Message) -> None:
        topic, number, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  (its public name)
            raise _failure(error, topic, number)
        assert topic is not None
        assert number is not None
        assert offset is not None
        partition = self._partitions.get(number)
        if partition is None:
            return  # Revoked while this poll was under way.
        if error is not None:
            partition.buffers[topic].reach_end(offset)
        else:
            partition.buffers[topic].add(offset, message.timestamp()[1], message.value())
            if self._is_traced:
                partition.trace(topic, offset, headers_of(message))

    def _hold_back(self, partition: SinkPartition) -> None:
        """Pause what a partition has enough of: memory stays bounded while ClickHouse is slow or away."""
        for topic in self._topics:
            place = (topic, partition.number)
            wanted = partition.wants(topic)
            if wanted and place in self._paused:
                self._paused.discard(place)
                self._consumer.resume([TopicPartition(*place)])
            elif not wanted and place not in self._paused:
                self._paused.add(place)
                self._consumer.pause([TopicPartition(*place)])

    def _commit_for_lag(self, now: float) -> None:
        if now - self._lag_committed_at < LAG_COMMIT_SECONDS:
            return
        self._lag_committed_at = now
        self._tell_lag()
        offsets = [
            TopicPartition(topic, partition.number, end)
            for partition in self._partitions.values()
            for topic, end in partition.inserted_to().items()
        ]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)

    def _tell_lag(self) -> None:
        """From what the newest fetches told of the ends: nobody is asked for it."""
        for partition in self._partitions.values():
            for topic, buffer in partition.buffers.items():
                place = TopicPartition(topic, partition.number)
                bounds = self._consumer.get_watermark_offsets(place, cached=True)
                if bounds[1] >= 0:
                    SINK_LAG.labels(topic, partition.number).set(max(bounds[1] - buffer.first, 0))

    def _on_assign(self, member: Consumer, assigned: list[TopicPartition]) -> None:
        """Fence and read the plans of all partitions side by side, then read from where the plans say."""
        numbers = sorted({place.partition for place in assigned})
        expected = {(topic, number) for topic in self._topics for number in numbers}
        got = {(place.topic, place.partition) for place in assigned}
        if got != expected:
            raise SinkRefusedError(
                f"expected the same partitions of all stored topics, got {sorted(got)}: partition counts differ"
            )
        self._forget_partitions()
        self._partitions = open_partitions(self._settings, self._topics, numbers, self._tools)
        places = [
            TopicPartition(topic, partition.number, buffer.first)
            for partition in self._partitions.values()
            for topic, buffer in partition.buffers.items()
        ]
        member.assign(places)
        member.resume(places)  # A pause outlives the assignment that it was made in.
        _LOG.info("sink_assigned partitions=%s", numbers)

    def _on_revoke(self, member: Consumer, _revoked: Iterable[TopicPartition]) -> None:
        self._forget_partitions()
        member.unassign()

    def _forget_partitions(self) -> None:
        for partition in self._partitions.values():
            partition.give_up()
        self._partitions = {}
        self._paused = set()


def _failure(error: KafkaError, topic: str | None, number: int | None) -> Exception:
    where = f"{topic} partition {number}"
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  (its public name)
        return SinkRefusedError(
            f"{where} does not hold the next record to store any more ({error.str()}): it was deleted, or the "
            "topic was created again. The next start says which."
        )
    return RuntimeError(f"the sink cannot read {where}: {error}")
