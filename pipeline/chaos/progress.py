"""Watches what workers and sinks commit: the cursor and the plans of each partition, as they become readable."""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

import orjson

from pipeline.kafka import Consumer, TopicPartition, consumer, topic_name
from pipeline.settings import Settings
from schemas.topics import SINK_PLANS, changelog

POLL_SECONDS: Final = 0.05
READ_MAX: Final = 5000
CURSOR_KEY: Final = b"__cursor__"
IN_FLIGHT_SECONDS: Final = 0.3
"""What is seen so soon after a strike was committed before it."""


class Progress:
    """Runs in a thread of its own from `start` to `close`. Times are those of the monotonic clock, in seconds."""

    def __init__(self, settings: Settings) -> None:
        self._programs = {
            topic_name(settings.kafka, changelog(settings.worker.app_id)): "worker",
            topic_name(settings.kafka, SINK_PLANS): "sink",
        }
        self._partitions = range(settings.kafka.partitions)
        self._times: dict[tuple[str, int], list[float]] = {
            (program, partition): [] for program in ("worker", "sink") for partition in self._partitions
        }
        self._positions: dict[int, int] = {}
        self._closing = threading.Event()
        self._reader = self._opened(settings)
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def _opened(self, settings: Settings) -> Consumer:
        # From the beginning on, since the first record of a topic may be the first that is looked for.
        options: dict[str, Any] = {"auto.offset.reset": "earliest", "fetch.wait.max.ms": 50, "log_level": "0"}
        reader = consumer(settings.kafka, **options)
        reader.assign(
            [TopicPartition(topic, each, 0) for topic in self._programs for each in self._partitions]
        )
        return reader

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._reader.close()

    def _watch(self) -> None:
        while not self._closing.is_set():
            for message in self._reader.consume(READ_MAX, POLL_SECONDS):
                topic, partition = message.topic(), message.partition()
                # An error is the broker's absence, which the client gets over by itself.
                if message.error() is not None or topic is None or partition is None:
                    continue
                program = self._programs[topic]
                if program == "sink" or message.key() == CURSOR_KEY:
                    self._times[program, partition].append(time.monotonic())
                    if program == "worker":
                        cursor: dict[str, Any] = orjson.loads(message.value() or b"{}")
                        self._positions[partition] = int(cursor["next_offset"])

    def position(self, partition: int) -> int:
        """The next input offset of the partition, as last committed."""
        return self._positions.get(partition, 0)

    def since(self, program: str, partition: int, at: float) -> float | None:
        """When the partition was first seen to go on after `at`; None while it has not."""
        times = self._times[program, partition]
        place = bisect_left(times, at + IN_FLIGHT_SECONDS)
        return times[place] if place < len(times) else None

    def recovery(self, program: str, partitions: Iterable[int], at: float) -> float | None:
        """Seconds from `at` until the last of these partitions went on; None while one has not."""
        seen = [self.since(program, partition, at) for partition in partitions or self._partitions]
        known = [each for each in seen if each is not None]
        return max(known) - at if len(known) == len(seen) else None

    def longest_standstill(self, program: str, until: float) -> float:
        """The longest time in seconds, up to `until`, in which a partition that had begun did not go on."""
        longest = 0.0
        for partition in self._partitions:
            times = self._times[program, partition]
            kept = times[: bisect_right(times, until)]
            longest = max([longest, *(later - earlier for earlier, later in pairwise(kept))])
        return longest
