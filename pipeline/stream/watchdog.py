"""Ends a worker that is alive and stuck. A thread of its own: it must not depend on what it watches.

It measures progress, not liveness: a partition with records to read whose position stands still, whatever the cause.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from pipeline.kafka import QUIET, Consumer, KafkaException, TopicPartition, consumer
from pipeline.settings import Settings
from pipeline.stream.ending import UNEXPECTED, end_process
from pipeline.telemetry import WORKER_LAG

LOOK_SECONDS: Final = 1.0
LOOP_BEAT_SECONDS: Final = 0.5
ASK_BROKER_SECONDS_MAX: Final = 5.0
"""For the end of a partition. A broker that does not answer is not the worker's standstill."""


class Standing(NamedTuple):
    """Since when a partition has stood where it stands."""

    position: int
    since: float
    behind_since: float | None = None
    """When the log was first seen to go on behind it."""


class Progress(Protocol):
    """What the watchdog is shown of the worker. Called from its thread."""

    def positions(self) -> Mapping[int, int]:
        """How far each held partition has come: committed, or, with nothing to commit, read."""
        ...

    def ends(self) -> Mapping[int, int]:
        """Where each held partition ends, as far as is known."""
        ...

    def is_changing(self) -> bool:
        """Whether the worker is between two assignments."""
        ...


class Watchdog(threading.Thread):
    """Looks once a second."""

    def __init__(self, settings: Settings, topic: str, progress: Progress) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._settings = settings
        self._topic = topic
        self._progress = progress
        worker = settings.worker
        # Finish a batch, fence and load have bounds of their own; together they bound a change of assignment.
        self._change_seconds_max = (
            worker.commit_timeout_seconds + worker.fence_timeout_seconds + worker.load_timeout_seconds
        ) + worker.stall_seconds_max
        self._settled_at = time.monotonic()
        self._stall_seconds = settings.worker.stall_seconds_max
        self._beat_at = time.monotonic()
        self._standing: dict[int, Standing] = {}
        self._asker: Consumer | None = None
        self.stopped = threading.Event()

    async def beat(self) -> None:
        """Runs in the event loop for as long as that turns."""
        while True:
            self._beat_at = time.monotonic()
            await asyncio.sleep(LOOP_BEAT_SECONDS)

    def run(self) -> None:
        """Look until told to stop."""
        while not self.stopped.wait(LOOK_SECONDS):
            now = time.monotonic()
            if now - self._beat_at > self._stall_seconds:
                end_process(UNEXPECTED, f"the event loop has not turned for {now - self._beat_at:.0f} s")
            if not self._progress.is_changing():
                self._settled_at = now
            if now - self._settled_at > self._change_seconds_max:
                end_process(UNEXPECTED, f"no assignment was reached for {now - self._settled_at:.0f} s")
            self._look(now)

    def _look(self, now: float) -> None:
        positions = self._progress.positions()
        for partition, end in self._progress.ends().items():
            if partition in positions:
                WORKER_LAG.labels(partition).set(max(end - positions[partition], 0))
        self._standing = {
            partition: self._standing[partition]
            if partition in self._standing and self._standing[partition].position == position
            else Standing(position, now)
            for partition, position in positions.items()
        }
        for partition, standing in self._standing.items():
            if now - standing.since > self._stall_seconds:
                self._standing[partition] = self._judged(partition, standing, now)

    def _judged(self, partition: int, standing: Standing, now: float) -> Standing:
        """Of a partition that has not moved for long. Most have nothing to do: what has just come to such a one is not
        behind yet, so the time counts from when the log was first seen to go on."""
        end = self._end(partition)
        if end <= standing.position:
            return Standing(standing.position, now)
        if standing.behind_since is None:
            return standing._replace(behind_since=now)
        if now - standing.behind_since > self._stall_seconds:
            end_process(
                UNEXPECTED,
                f"partition {partition} of {self._topic} has stood at offset {standing.position} for "
                f"{now - standing.behind_since:.0f} s, although the log goes on to {end}",
            )
        return standing

    def _end(self, partition: int) -> int:
        if self._asker is None:
            self._asker = consumer(self._settings.kafka, **QUIET)
        try:
            place = TopicPartition(self._topic, partition)
            return self._asker.get_watermark_offsets(place, timeout=ASK_BROKER_SECONDS_MAX)[1]
        except KafkaException:
            return 0
