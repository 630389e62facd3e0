"""Folds a log of JSON lines with the stream's own core, in memory: what would Kafka have answered?

One partition, whose clock is the greatest `accepted_at` read so far. A line's `accepted_at` takes the place of the
broker's append time and is gone before the core sees the event. Lines are records: the first has offset 0.
"""

import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from pipeline.boundaries import Boundaries
from pipeline.client.commands import CommandKey, signed
from pipeline.domain.instants import Instant, format_instant
from pipeline.evidence import said_of, wanted
from pipeline.metering import Batch, Core, Folded, PartitionView, initial_cursor
from pipeline.pricing import instant_of
from pipeline.published import content_hash
from pipeline.state import next_boundary_ms
from pipeline.validate_command import COMMANDS
from pipeline.validate_publication import PUBLICATIONS
from schemas.publication import SCHEDULE_SUBJECT
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    TOPUP_ORDERS,
)

THROW_AWAY_KEY_ID: Final = "simulation"
OFFLINE: Final = "simulation"
"""In place of the id of a Kafka topic."""
PAST_RECORDS_MAX: Final = 100_000
"""Metered records that corrections can name; older ones are not found."""
_SIGNED: Final = frozenset({*COMMANDS, *PUBLICATIONS})


class Line(NamedTuple):
    """One record of the log, as `pipeline.metering.LogRecord` has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class BadLineError(Exception):
    """A line says when it was accepted in a way that nobody can read: the log itself is broken."""


class _Clock:
    """When a line was accepted that does not say so itself: with the line before it, in a log that says so at all;
    else when it happened."""

    def __init__(self) -> None:
        self.at = Instant(0)
        self._was_told = False

    def accepted_at(self, event: dict[str, Any]) -> Instant:
        told = event.pop("accepted_at", None)
        if told is not None:
            self.at, self._was_told = instant_of(told), True
        elif not self._was_told and isinstance(event.get("time"), str):
            try:
                self.at = max(self.at, instant_of(event["time"]))
            except (ValueError, OverflowError):
                return self.at  # The core will say what is wrong with it.
        return self.at


class Simulation:
    """A partition in memory. `fold` lines in slices; the answers do not depend on how they are cut."""

    def __init__(self, core: Core, *, verify_signatures: bool = False, details: bool = False) -> None:
        self._details = details
        self._key = None if verify_signatures else CommandKey(THROW_AWAY_KEY_ID, secrets.token_bytes(32))
        if self._key is not None:
            core = replace(core, command_keys={self._key.key_id: self._key.secret})
        self._core = core
        self._cursor = initial_cursor(core, OFFLINE)
        self._published: dict[bytes, bytes] = {}
        self._accounts: dict[bytes, bytes] = {}
        self._identities: dict[bytes, bytes] = {}
        self._boundaries = Boundaries()
        self._balances: dict[bytes, bytes] = {}
        self._metered: deque[bytes] = deque(maxlen=PAST_RECORDS_MAX)
        self._clock = _Clock()

    def fold(self, lines: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        """The answers to numbered lines, in their order. Raises BadLineError."""
        named: list[tuple[Line, object]] = []
        bad: BadLineError | None = None
        for number, line in lines:
            try:
                named.append(self._record(number, line))
            except BadLineError as error:
                bad = error  # What stands before it still gets its answers.
                break
        view = PartitionView(
            partition=0,
            cursor=self._cursor,
            published=self._published,
            accounts=self._accounts,
            identities=self._identities,
            due_accounts=self._boundaries.due,
        )
        batch = Batch(self._core, view)
        records = [record for record, _ in named]
        batch.feed(records, self._evidence(records))
        folded = batch.finish()
        self._apply(folded)
        answers = _answers(folded)
        brought = _brought(folded) if self._details else {}
        for record, name in named:
            answer = {"id": name, **answers.get(record.offset, _TICKED)}
            if self._details:
                answer |= brought.get(record.offset, _NOTHING_BROUGHT)
            yield orjson.dumps(answer)
        if bad is not None:
            raise bad

    def balances(self) -> Iterator[bytes]:
        """Every account's balance, in order of its id."""
        for _, balance in sorted(self._balances.items()):
            yield balance

    def _evidence(self, records: Sequence[Line]) -> dict[int, bytes]:
        """The metered records that corrections among these name, by `event_offset`: the first line is 0."""
        found: dict[int, bytes] = {}
        for place in wanted(records, self._core):
            said = said_of(place.event_offset, reversed(self._metered))
            if said is not None:
                found[place.event_offset] = said
        return found

    def _record(self, number: int, line: bytes) -> tuple[Line, object]:
        try:
            event = orjson.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):  # The core gets it as it is, and says what is wrong with it.
            return Line(number - 1, self._clock.at, None, line, ()), None
        try:
            accepted_at = self._clock.accepted_at(event)
        except (ValueError, OverflowError) as error:
            raise BadLineError(f"line {number}, accepted_at: {error}") from error
        if event.get("type") in _SIGNED:
            event = self._command(event, number, accepted_at)
        subject = event.get("subject")
        key = subject.encode() if isinstance(subject, str) else None
        return Line(number - 1, accepted_at, key, orjson.dumps(event), ()), event.get("id")

    def _command(self, event: dict[str, Any], number: int, accepted_at: Instant) -> dict[str, Any]:
        """The command with what it leaves out, signed when signatures are not what is being tried."""
        if self._key is None:
            return event
        if event["type"] in PUBLICATIONS:
            event = _whole_publication(event)
        filled = {
            "specversion": "1.0",
            "id": f"line-{number}",
            "source": "/simulation",
            "time": format_instant(accepted_at),
            "data": {},
            **event,
        }
        filled["data"] = _whole_places(filled["data"])
        attributes = [filled.get(name) for name in ("id", "source", "subject", "time")]
        if all(isinstance(value, str) for value in attributes):
            return signed(filled, self._key)
        return filled

    def _apply(self, folded: Folded) -> None:
        self._published.update(folded.published)
        self._accounts.update(folded.accounts)
        self._identities.update(folded.identities)
        self._cursor = folded.cursor
        self._metered.extend([record.value for record in folded.records if record.topic == METERED_RECORDS])
        self._boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        self._balances.update(
            {record.key: record.value for record in folded.records if record.topic == ACCOUNT_BALANCES}
        )


def _whole_places(data: object) -> object:
    """With what a place in the topics of a deployment has beside that of the event in the log, if it leaves it out."""
    if not isinstance(data, dict):
        return data
    named = {name: data[name] for name in ("record", "letter") if isinstance(data.get(name), dict)}
    return data | {name: {"partition": 0, "offset": 0, **place} for name, place in named.items()}


def _whole_publication(event: dict[str, Any]) -> dict[str, Any]:
    """With its subject, and the hash of its content, if it leaves them out."""
    data = event.get("data")
    if isinstance(data, dict) and isinstance(data.get("content"), dict):
        data = {"sha256": content_hash(orjson.dumps(data["content"])), **data}
    return {"subject": SCHEDULE_SUBJECT, **event, "data": data}


_DETAIL_OF_TOPIC: Final = {
    LEDGER_ENTRIES: "entries",
    ACCOUNT_ALERTS: "alerts",
    ACCOUNT_STATEMENTS: "statements",
    TOPUP_ORDERS: "topup_orders",
}
_NOTHING_BROUGHT: Final[dict[str, list[Any]]] = {name: [] for name in _DETAIL_OF_TOPIC.values()}
_TICKED: Final = {"outcome": "tick", "reason": "", "credits": "0", "balance_after": None}


def _answers(folded: Folded) -> dict[int, dict[str, Any]]:
    answers: dict[int, dict[str, Any]] = {}
    for record in folded.records:
        if record.topic in _ANSWER_OF_TOPIC:
            outcome = orjson.loads(record.value)
            answer = _ANSWER_OF_TOPIC[record.topic](outcome)
            usage = answers.get(outcome["offset"])
            if (
                usage is not None
            ):  # A command that brought usage with it: its answer follows the metered record.
                answer["credits"] = usage["credits"]
            answers[outcome["offset"]] = answer
    return answers


def _brought(folded: Folded) -> dict[int, dict[str, list[Any]]]:
    """By offset: what else was said there, in its order."""
    found: dict[int, dict[str, list[Any]]] = {}
    for record in folded.records:
        name = _DETAIL_OF_TOPIC.get(record.topic)
        if name is not None:
            said = orjson.loads(record.value)
            found.setdefault(said["offset"], {each: [] for each in _NOTHING_BROUGHT})[name].append(said)
    return found


def _of_usage(record: dict[str, Any]) -> dict[str, Any]:
    names = ("outcome", "reason", "credits", "balance_after", "rated_credits", "account_id")
    return {name: record[name] for name in names}


def _of_command(record: dict[str, Any]) -> dict[str, Any]:
    names = (
        "outcome",
        "reason",
        "balance_after",
        "available_after",
        "detail",
        "hold",
        "plan_change",
        "reversal",
        "publication",
        "shortage",
        "account_id",
    )
    return {"credits": "0", **{name: record[name] for name in names}}


def _of_dead_letter(record: dict[str, Any]) -> dict[str, Any]:
    outcome = "conflict" if record["reason"] == "conflict" else "dead_letter"
    found = {name: record[name] for name in ("reason", "detail", "pointer", "account_id")}
    return {"outcome": outcome, "credits": "0", "balance_after": None, **found}


_ANSWER_OF_TOPIC: Final = {
    METERED_RECORDS: _of_usage,
    COMMAND_RESULTS: _of_command,
    DEAD_LETTERS: _of_dead_letter,
}
