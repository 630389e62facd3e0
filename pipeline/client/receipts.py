"""What a service learns of its events: a receipt for each, problems as they come, counters at any time."""

import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Final, Literal, NamedTuple, TypeAlias

Acknowledgement: TypeAlias = Literal["published", "spooled"]
"""Kafka has the event on all in-sync replicas; or the spool has it, fsynced, and sends it when Kafka is back."""
RefusalReason: TypeAlias = Literal["invalid_event", "queue_full", "closed", "not_sent"]
"""`not_sent`: neither Kafka nor a spool took it before the client was closed."""
ProblemKind: TypeAlias = Literal[
    RefusalReason,
    "kafka_away",
    "spool_full",
    "spool_unwritable",
    "spool_damaged",
    "spool_torn",
    "too_late",
    "capture_not_answered",
    "capture_refused",
    "release_not_answered",
    "client_fault",
]
_LOG: Final = logging.getLogger("creditstream.client")


class Problem(NamedTuple):
    """Something that an operator should know. `events` says how many it is about; 0: none in particular."""

    kind: ProblemKind
    detail: str
    event_id: str = ""
    events: int = 0


OnProblem: TypeAlias = Callable[[Problem], None]


class NotRecordedError(Exception):
    """The event is in nobody's hands: neither Kafka nor the spool has it."""

    def __init__(self, reason: RefusalReason, event_id: str, detail: str) -> None:
        super().__init__(f"event {event_id!r} not recorded, {reason}: {detail}")
        self.reason: RefusalReason = reason
        self.event_id = event_id


class Receipt(NamedTuple):
    """Of one event. `acknowledged.result(seconds)` waits; it raises NotRecordedError when the event was refused."""

    event_id: str
    acknowledged: "Future[Acknowledgement]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters since the client began, and what waits now."""

    recorded: int
    """Events that `record` took."""
    published: int
    """Acknowledged by Kafka, those from the spool and from predecessors' spools included."""
    spooled: int
    refused: dict[str, int]
    """By reason."""
    too_late: int
    """Published, but later than the window: the pipeline sets them aside or makes dead letters of them."""
    spool_damaged: int
    """Lines of the spool whose checksum is wrong; their file is kept as `.damaged`."""
    failed_tries: int
    """Flights of events that Kafka did not acknowledge whole."""
    queue_events: int
    spool_events: int
    spool_bytes: int
    spool_oldest_age_seconds: float
    """By the event's own time; 0 when the spool is empty."""


class Telling:
    """Counts, and passes problems to whoever listens. A listener's error is logged and goes no further."""

    def __init__(self, on_problem: OnProblem | None) -> None:
        self._on_problem = on_problem
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def count(self, name: str, events: int = 1) -> None:
        with self._lock:
            self._counts[name] += events

    def counted(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def refusals(self) -> dict[str, int]:
        """Events that were refused, by reason."""
        with self._lock:
            known = ("invalid_event", "queue_full", "closed", "not_sent")
            return {name: self._counts[name] for name in known if self._counts[name]}

    def tell(self, problem: Problem) -> None:
        """To `on_problem`; without one, to the log."""
        if self._on_problem is None:
            _LOG.warning("%s: %s", problem.kind, problem.detail, extra={"event_id": problem.event_id})
            return
        try:
            self._on_problem(problem)
        except Exception:  # noqa: BLE001  (their code in our thread: its faults must not stop the events)
            _LOG.exception("on_problem raised")

    def renew_lock(self) -> None:
        """In a forked child: whoever held the lock is not there."""
        self._lock = Lock()
