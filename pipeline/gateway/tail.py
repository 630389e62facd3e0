"""Follows topics in a thread of its own and hands what came to the event loop, batch by batch.

A poll, not `consume` with a wait: that would hold back the first record until its batch is full or its time is over.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

from pipeline.kafka import (
    QUIET,
    AdminClient,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    drain,
    list_offsets,
    topic_name,
)
from pipeline.settings import Settings

POLL_SECONDS: Final = 0.2
DRAIN_RECORDS: Final = 5000
FETCH_WAIT_MS: Final = 50
"""How soon the end of an idle partition is known."""
RETRY_SECONDS: Final = 0.25

Place = tuple[str, int]
"""Topic, without the deployment's prefix, and partition."""


class Tail:
    """Committed records of some topics from their start or their present end, in the order of each partition."""

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        *,
        begin: Literal["earliest", "latest"],
        take: Callable[[list[Message]], None],
        moved: Callable[[], None],
    ) -> None:
        """In this tail's thread `take` gets each batch, and `moved` is called when `reached` has changed."""
        self._settings = settings
        self._names = {topic_name(settings.kafka, topic): topic for topic in topics}
        self._begin: Literal["earliest", "latest"] = begin
        self._take = take
        self._moved = moved
        options: dict[str, Any] = {
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "enable.partition.eof": True,
            "reconnect.backoff.ms": 250,
            **QUIET,
        }
        self._consumer: Consumer = consumer(settings.kafka, **options)
        self._admin = admin(settings.kafka)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"tail-{topics[0]}", daemon=True)
        self.reached: dict[Place, int] = {}
        """The next offset of each partition. Written in the thread; a reader may see it a moment late."""
        self.failed: BaseException | None = None
        """Why the thread ended; None while it runs."""

    def start(self) -> None:
        """Find the places to begin at, then follow. Blocks; raises KafkaException when the broker does not answer."""
        starts = offsets(self._settings, self._admin, self._names, self._begin)
        self._consumer.assign(
            [TopicPartition(topic, partition, offset) for (topic, partition), offset in starts.items()]
        )
        self.reached = {
            (self._names[topic], partition): offset for (topic, partition), offset in starts.items()
        }
        self._thread.start()

    def ends(self) -> dict[Place, int]:
        """Where the partitions end now. Blocks."""
        ends = offsets(self._settings, self._admin, self._names, "latest")
        return {(self._names[topic], partition): offset for (topic, partition), offset in ends.items()}

    def _follow(self) -> None:
        try:
            while not self._closing.is_set():
                if messages := drain(self._consumer, DRAIN_RECORDS, POLL_SECONDS):
                    self._hand_on(messages)
        except BaseException as error:  # noqa: BLE001  (the top of this thread; the process looks at it and ends)
            self.failed = error

    def _hand_on(self, messages: list[Message]) -> None:
        records: list[Message] = []
        reached: dict[Place, int] = {}
        for message in messages:
            error, topic, partition, offset = (
                message.error(),
                message.topic(),
                message.partition(),
                message.offset(),
            )
            if error is None:
                records.append(message)
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  (librdkafka's own name for it)
                if not (error.retriable() or error.code() in _PASSING):
                    raise KafkaException(error)
                continue
            assert topic is not None, "a record and the end of a partition have a topic"
            assert partition is not None, "and a partition"
            assert offset is not None, "and an offset"
            reached[self._names[topic], partition] = offset + (error is None)
        if records:
            self._take(records)
        self.reached |= reached  # After `take`: who sees it reached finds it taken.
        self._moved()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()


_PASSING: Final = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT})  # noqa: SLF001
"""librdkafka goes on by itself after these."""


def offsets(
    settings: Settings, client: AdminClient, topics: Iterable[str], which: Literal["earliest", "latest"]
) -> dict[tuple[str, int], int]:
    """Where partitions of these topics, by their names on the cluster, begin or end for a committed reader.

    A broker that has just started, or a leader that moves, is asked again.
    """
    places = [TopicPartition(name, number) for name in topics for number in range(settings.kafka.partitions)]
    seconds = settings.client.request_timeout_seconds
    deadline = time.monotonic() + seconds
    while True:
        try:
            return list_offsets(client, places, which, timeout_seconds=seconds)
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


class Signal:
    """Wakes whoever waits in the loop when another thread has moved on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()

    def moved(self) -> None:
        """From any thread."""
        if self._waiting:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for each in waiting:
            if not each.done():
                each.set_result(None)

    async def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until it is so; False when it was not within the bound."""
        deadline = time.monotonic() + seconds
        while not reached():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            future = self._loop.create_future()
            self._waiting.add(future)
            if reached():  # It moved between the question and the entry.
                return True
            await asyncio.wait([future], timeout=min(left, POLL_SECONDS))
            self._waiting.discard(future)
        return True
