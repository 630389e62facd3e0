"""Answers to what this gateway published: one reader of the outcome topics for all requests that wait.

A request expects its account before it publishes, so that no answer passes unseen; the account is the records' key,
so whatever nobody waits for is not even decoded. The position in the input log finds the answer to this very copy.
"""

import asyncio
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.client.outcomes import Outcome, OutcomeKind, Position
from pipeline.gateway.tail import Signal, Tail
from pipeline.kafka import Message
from pipeline.settings import Settings
from schemas.publication import SCHEDULE_SUBJECT
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, METERED_RECORDS

_KINDS: Final[dict[str, OutcomeKind]] = {
    METERED_RECORDS: "metered_record",
    COMMAND_RESULTS: "command_result",
    DEAD_LETTERS: "dead_letter",
}
SCHEDULE_KEY: Final = SCHEDULE_SUBJECT.encode()
"""Of publications and their answers."""
OF_COMMANDS: Final[frozenset[OutcomeKind]] = frozenset({"command_result", "dead_letter"})
OF_USAGE: Final[frozenset[OutcomeKind]] = frozenset({"metered_record", "dead_letter"})


@dataclass(slots=True)
class _Expected:
    """One account that somebody waits for."""

    requests: int = 0
    found: dict[tuple[Position, OutcomeKind], Outcome] = field(
        default_factory=dict[tuple[Position, OutcomeKind], Outcome]
    )
    """Everything that was said about the account since: as much as its use in the time of one request."""


class Answers:
    """Reads the outcome topics from their present end on."""

    def __init__(self, settings: Settings) -> None:
        self._accounts: dict[bytes, _Expected] = {}
        self._prefix = settings.kafka.topic_prefix
        self._seconds = settings.gateway.outcome_timeout_ms / 1000
        self._signal = Signal()
        self.publications = 0
        """Answers of partitions to published price books and plans that have been seen."""
        self.progress: dict[int, int] = {}
        """Input partition → offset up to which everything has been answered. Absent: nothing yet."""
        self.tail = Tail(settings, tuple(_KINDS), begin="latest", take=self._take, moved=self._signal.moved)

    async def start(self) -> None:
        """From here on no answer passes unseen."""
        await asyncio.to_thread(self.tail.start)

    @contextmanager
    def expecting(self, accounts: Collection[bytes]) -> Generator[None, None, None]:
        """Enter before publishing for these accounts, leave after waiting."""
        for account in accounts:
            self._accounts.setdefault(account, _Expected()).requests += 1
        try:
            yield
        finally:
            for account in accounts:
                expected = self._accounts[account]
                expected.requests -= 1
                if not expected.requests:
                    del self._accounts[account]

    async def of(
        self, wanted: Mapping[Position, bytes], kinds: frozenset[OutcomeKind]
    ) -> dict[Position, Outcome]:
        """Outcomes of the records at these positions, each of an expected account; those that came in time."""
        missing = dict(wanted)
        found: dict[Position, Outcome] = {}

        def complete() -> bool:
            for position, account in list(missing.items()):
                seen = self._accounts[account].found
                outcome = next((each for kind in kinds if (each := seen.get((position, kind)))), None)
                if outcome is not None:
                    found[position] = outcome
                    del missing[position]
            return not missing

        await self._signal.until(complete, self._seconds)
        return found

    async def until_answered(self, position: Position, seconds: float) -> bool:
        """Wait until whatever stands at the position has its answer; False when it was not within the bound."""
        partition, offset = position
        return await self._signal.until(lambda: self.progress.get(partition, -1) >= offset, seconds)

    def _take(self, messages: list[Message]) -> None:
        newest: dict[tuple[str, int], Message] = {}
        for message in messages:
            topic, partition, key = message.topic(), message.partition(), message.key()
            assert topic is not None
            assert partition is not None
            newest[topic, partition] = message
            if key == SCHEDULE_KEY:
                self.publications += 1
            expected = self._accounts.get(key) if isinstance(key, bytes) else None
            if expected is not None:
                kind = _KINDS[topic.removeprefix(self._prefix)]
                outcome = Outcome(kind, _decoded(message))
                position = outcome.record["partition"], outcome.record["offset"]
                expected.found[position, kind] = outcome
        for (_, partition), message in newest.items():
            # A dead letter may be large; of everything else one record a batch is quickly read.
            offset = int(_decoded(message)["offset"])
            self.progress[partition] = max(self.progress.get(partition, -1), offset)


def _decoded(message: Message) -> dict[str, Any]:
    value = message.value()
    assert isinstance(value, bytes), "the worker writes no empty record on these topics"
    decoded: dict[str, Any] = orjson.loads(value)
    return decoded
