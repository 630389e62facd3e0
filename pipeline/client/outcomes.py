"""Waits for what became of published events: one record on one of three topics, found by its position.

Open the reader before publishing: it stands at the end of the topics, so that no answer passes unseen. The
position finds the answer to *this* copy: a resend of an old id is answered `duplicate`, at its own position.
"""

import time
from collections.abc import Collection, Iterator
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias

import orjson

from pipeline.kafka import (
    OFFSET_BEGINNING,
    QUIET,
    KafkaException,
    TopicPartition,
    consumer,
    drain,
    topic_name,
)
from pipeline.settings import Settings
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, METERED_RECORDS

OutcomeKind: TypeAlias = Literal["metered_record", "command_result", "dead_letter"]
_KIND_OF_TOPIC: Final[dict[str, OutcomeKind]] = {
    METERED_RECORDS: "metered_record",
    COMMAND_RESULTS: "command_result",
    DEAD_LETTERS: "dead_letter",
}
EVERY_KIND: Final[tuple[OutcomeKind, ...]] = tuple(_KIND_OF_TOPIC.values())
Position: TypeAlias = tuple[int, int]
"""Partition and offset in the input log."""
_POLL_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 0.1
_POLL_RECORDS: Final = 2000


class Outcome(NamedTuple):
    kind: OutcomeKind
    record: dict[str, Any]


class OutcomeTimeoutError(Exception):
    """Events are in the log, but their outcomes did not come in time. Nothing is lost: a worker will answer."""

    def __init__(self, *, missing: int, of: int, seconds: int) -> None:
        super().__init__(f"{missing} of {of} outcomes did not come: none within the last {seconds} s")


class OutcomeReader:
    """A reader of the outcomes that come from now on, or of all that Kafka has. Close it, or use it in a `with`."""

    def __init__(
        self,
        settings: Settings,
        kinds: Collection[OutcomeKind] = EVERY_KIND,
        *,
        since: Literal["now", "beginning"] = "now",
    ) -> None:
        timeout_seconds = settings.client.request_timeout_seconds
        self._timeout_seconds = settings.client.outcome_timeout_seconds
        self._kinds: dict[str, OutcomeKind] = {
            topic_name(settings.kafka, topic): kind for topic, kind in _KIND_OF_TOPIC.items() if kind in kinds
        }
        options: dict[str, Any] = {"fetch.wait.max.ms": 50, **QUIET}
        self._consumer = consumer(settings.kafka, **options)
        self._consumer.assign(
            [
                TopicPartition(
                    topic,
                    partition,
                    OFFSET_BEGINNING
                    if since == "beginning"
                    else self._end(topic, partition, timeout_seconds),
                )
                for topic in self._kinds
                for partition in range(settings.kafka.partitions)
            ]
        )

    def _end(self, topic: str, partition: int, timeout_seconds: int) -> int:
        """Where the partition ends now. A broker that has just started, or a leader that moves, is asked again."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                bounds = self._consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout_seconds
                )
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                assert bounds is not None, "watermarks were asked for with a timeout: they came, or it raised"
                return bounds[1]

    def stream(self) -> Iterator[Outcome | None]:
        """Outcomes as they come, of everybody's events; None each time when nothing came for a moment."""
        while True:
            messages = drain(self._consumer, _POLL_RECORDS, _POLL_SECONDS)
            if not messages:
                yield None
            for message in messages:
                error, topic, value = message.error(), message.topic(), message.value()
                if error is not None:
                    raise KafkaException(error)
                assert topic is not None, "a record without an error has a topic"
                assert isinstance(value, bytes), "the worker writes no empty record on these topics"
                yield Outcome(self._kinds[topic], orjson.loads(value))

    def wait(
        self, positions: Collection[Position], *, commands: Collection[Position] = ()
    ) -> dict[Position, Outcome]:
        """The outcomes of the events at these (partition, offset). Raises OutcomeTimeoutError.

        At the position of a capture stands a metered record too: of `commands` only the answer is waited for.
        The wait is bounded by the time without progress, so that it fits one event and a million.
        """
        missing = set(positions)
        found: dict[Position, Outcome] = {}
        deadline = time.monotonic() + self._timeout_seconds
        for outcome in self.stream() if missing else ():
            if (
                outcome is not None
                and (position := position_of(outcome)) in missing
                and not (outcome.kind == "metered_record" and position in commands)
            ):
                missing.discard(position)
                found[position] = outcome
                deadline = time.monotonic() + self._timeout_seconds
                if not missing:
                    break
            elif time.monotonic() > deadline:
                raise OutcomeTimeoutError(
                    missing=len(missing), of=len(positions), seconds=self._timeout_seconds
                )
        return found

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def position_of(outcome: Outcome) -> Position:
    """Where in the input log the event stands that this is the outcome of."""
    return outcome.record["partition"], outcome.record["offset"]
