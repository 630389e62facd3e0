"""Reads one partition of our topics, from somewhere to the end that it has now: what is committed, unless all of it
is asked for.

For a partition that is fenced: nobody else writes to it any more, so its end stays where it is.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from pipeline.kafka import (
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    admin,
    consumer,
    drain,
    list_offsets,
    offsets_at,
    topic_id,
    topic_name,
    watermarks,
)
from pipeline.settings import Settings

READ_RECORDS_MAX: Final = 10_000
"""Of one call to librdkafka."""
READ_WAIT_SECONDS: Final = 0.2
"""How long one call waits; also how soon a load that is no longer wanted notices."""
END_WAIT_MS: Final = 10
"""How long the broker holds a fetch that finds nothing. With librdkafka's 500 an empty partition took 4 s to load."""
REQUEST_SECONDS_MAX: Final = 30

T = TypeVar("T")


class LoadAbandonedError(Exception):
    """The partition was taken away while it was being loaded."""


class PartitionReader:
    """`abandoned` is set when nobody wants the result any more. `close` it."""

    def __init__(
        self, settings: Settings, partition: int, abandoned: threading.Event, *, uncommitted: bool = False
    ) -> None:
        self.partition = partition
        self._settings = settings
        self._abandoned = abandoned
        self._uncommitted = uncommitted
        self._deadline = time.monotonic() + settings.worker.load_timeout_seconds
        # The end is known when a fetch finds nothing, and every question waits for the fetch that is under way.
        options: dict[str, Any] = {"enable.partition.eof": True, "fetch.wait.max.ms": END_WAIT_MS}
        if uncommitted:
            options["isolation.level"] = "read_uncommitted"
        self._consumer = consumer(settings.kafka, **options)
        self._admin = admin(settings.kafka)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def topic(self, name: str) -> str:
        """Its name on this cluster."""
        return topic_name(self._settings.kafka, name)

    def topic_id(self, name: str) -> str:
        """A recreated topic has another."""
        return topic_id(self._admin, self.topic(name), timeout_seconds=REQUEST_SECONDS_MAX)

    def bounds(self, name: str) -> tuple[int, int]:
        """The first offset, and the one after the last that is committed."""
        return self._asked(
            lambda: watermarks(
                self._consumer,
                self._admin,
                self._place(name),
                timeout_seconds=REQUEST_SECONDS_MAX,
                uncommitted=self._uncommitted,
            )
        )

    def ends(self, names: Iterable[str], *, uncommitted: bool = False) -> dict[str, int]:
        """Where these topics end, all in one question: at what is committed, or at what is written."""
        places = {self.topic(name): name for name in names}
        asked = [TopicPartition(topic, self.partition) for topic in places]
        answers = self._asked(
            lambda: list_offsets(
                self._admin, asked, "latest", timeout_seconds=REQUEST_SECONDS_MAX, uncommitted=uncommitted
            )
        )
        return {places[topic]: offset for (topic, _), offset in answers.items()}

    def _asked(self, question: Callable[[], T]) -> T:
        """The answer; a leader that moves is asked again."""
        give_up_at = time.monotonic() + REQUEST_SECONDS_MAX
        while True:
            self._check_wanted()
            try:
                return question()
            except KafkaException:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(READ_WAIT_SECONDS)

    def offset_at(self, name: str, since_ms: int, high: int) -> int:
        """The first record with this timestamp or a later one; `high` where there is none."""
        place = self._place(name, since_ms)
        found = self._asked(
            lambda: offsets_at(self._consumer, self._admin, [place], timeout_seconds=REQUEST_SECONDS_MAX)
        )
        return found.get((place.topic, place.partition), high)

    def read(self, name: str, start: int, high: int) -> Iterator[Message]:
        """Every record in [start, high), in order."""
        if start >= high:
            return
        self._consumer.assign([self._place(name, start)])
        while True:
            self._check_wanted()
            for message in drain(self._consumer, READ_RECORDS_MAX, READ_WAIT_SECONDS):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  (confluent's own name for it)
                    assert (message.offset() or 0) >= high, (name, message.offset(), high)
                    return
                else:
                    raise KafkaException(error)

    def _place(self, name: str, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.topic(name), self.partition, offset)

    def _check_wanted(self) -> None:
        if self._abandoned.is_set():
            raise LoadAbandonedError
        if time.monotonic() > self._deadline:
            limit = self._settings.worker.load_timeout_seconds
            raise TimeoutError(
                f"partition {self.partition} was not loaded within {limit} s "
                "(CREDITSTREAM_WORKER__LOAD_TIMEOUT_SECONDS)"
            )
