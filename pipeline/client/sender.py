"""Carries events from the service's memory to Kafka, or to the spool while Kafka is away. One thread.

One flight of events at a time: it is launched, and either lands whole or what is left of it goes to the spool, before
anything newer moves. So an account's events keep their order through every outage. Events are acknowledged when
Kafka or the disk has them, never before. What fails is tried again, without end: Kafka refuses no event for good that
`record` has checked, and a wrong password or topic is mended by an operator, who is told.
"""

import threading
import time
from collections import deque
from functools import partial
from typing import Any, Final

from pipeline.client.events import STRUCTURED_MODE
from pipeline.client.options import ClientOptions
from pipeline.client.origin import now
from pipeline.client.receipts import Acknowledgement, NotRecordedError, Problem, RefusalReason, Telling
from pipeline.client.spool import Entry, Spool, time_of
from pipeline.domain.instants import HOUR_MS
from pipeline.kafka import KafkaError, KafkaException, Message, Producer, abandon, producer, topic_name
from pipeline.tracing import with_trace
from schemas.topics import ACCOUNT_EVENTS

FLIGHT_EVENTS_MAX: Final = 2000
FLIGHT_BYTES_MAX: Final = 8_000_000
_POLL_SECONDS: Final = 0.02
"""While a flight is in the air, so long newer events wait for the spool at most."""
_RETRY_SECONDS: Final = 0.5
_ADOPT_SECONDS: Final = 10
"""Between two looks for spools of processes that have died."""
_CROWDED_FLIGHT_SECONDS: Final = 0.2
"""With half of the queue full, a flight that takes longer than this is recalled: usual are 10 ms."""
_ASLEEP_SECONDS: Final = 3600


class _Flight:
    """Events that Kafka was given, in order, and its word on each."""

    def __init__(self, entries: list[Entry], *, from_spool: bool) -> None:
        self.entries = entries
        self.from_spool = from_spool
        self.launched_at = time.monotonic()
        self.open = len(entries)
        self.error: KafkaError | None = None
        self._landed = [False] * len(entries)

    def report(self, index: int, error: KafkaError | None, _message: Message) -> None:
        self.open -= 1
        self._landed[index] = error is None
        self.error = self.error or error

    def landed(self) -> list[Entry]:
        return [entry for entry, landed in zip(self.entries, self._landed, strict=True) if landed]

    def left(self) -> list[Entry]:
        return [entry for entry, landed in zip(self.entries, self._landed, strict=True) if not landed]


class Sender:
    """The queue and the thread behind it. Any thread may put; what else is here is the sender thread's own."""

    def __init__(self, options: ClientOptions, telling: Telling) -> None:
        self._options = options
        self._telling = telling
        self._topic = topic_name(options.kafka, ACCOUNT_EVENTS)
        self._begin()

    def _begin(self) -> None:
        self._condition = threading.Condition()
        self._queue: deque[Entry] = deque()
        self._waiting = 0
        """Events without an acknowledgement: of the queue and of a flight from memory."""
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._close_at: float | None = None
        self._producer: Producer | None = None
        self._flight: _Flight | None = None
        self._spool: Spool | None = None
        self._again: list[Entry] = []
        """Of the spool's head: what no flight has brought home yet."""
        self._head_events = 0
        self._try_at = 0.0
        self._spool_at = 0.0
        self._adopt_at = 0.0
        self._troubles: set[str] = set()

    # Called by the service's threads.

    def put(self, entry: Entry, *, wait_seconds: float) -> RefusalReason | None:
        """Take the event, after waiting for room so long at most; else why not."""
        with self._condition:
            if not self._has_room(entry) and wait_seconds > 0:
                self._condition.wait_for(partial(self._has_room, entry), wait_seconds)
            if self._close_at is not None:
                return "closed"
            if not self._has_room(entry):
                return "queue_full"
            self._queue.append(entry)
            self._waiting += 1
            self._waiting_bytes += len(entry.value)
            self._ensure_thread()
            if len(self._queue) == 1:
                self._condition.notify_all()
        return None

    def _has_room(self, entry: Entry) -> bool:
        options = self._options
        fits = self._waiting_bytes + len(entry.value) <= options.queue_bytes_max or self._waiting == 0
        return (self._waiting < options.queue_events_max and fits) or self._close_at is not None

    def start(self) -> None:
        """Begin at once where a predecessor may have left a spool."""
        with self._condition:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="creditstream-client", daemon=True)
            self._thread.start()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def spool(self) -> Spool | None:
        return self._spool

    def flush(self, timeout_seconds: float) -> bool:
        """Whether all that was put is acknowledged (or refused), within this time."""
        with self._condition:
            return self._condition.wait_for(lambda: self._waiting == 0, timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """No more events; what is there goes to Kafka within this time, else to the spool, else is refused."""
        with self._condition:
            if self._close_at is None:
                self._close_at = time.monotonic() + timeout_seconds
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def renew(self) -> None:
        """In a forked child: events, spool, connection and thread are the parent's; begin anew."""
        if self._producer is not None:
            abandon(self._producer)
        if self._spool is not None:
            self._spool.close()
        self._begin()

    # The sender thread.

    def _run(self) -> None:
        while not self._is_done():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001  (a fault of ours must not end the events of a service)
                self._telling.tell(Problem("client_fault", f"{type(error).__name__}: {error}"))
                self._try_at = time.monotonic() + _RETRY_SECONDS
                time.sleep(_RETRY_SECONDS)
        self._end()

    def _is_done(self) -> bool:
        with self._condition:
            if self._close_at is None:
                return False
            return self._waiting == 0 or time.monotonic() >= self._close_at

    def _step(self) -> None:
        spool = self._ready_spool()
        if self._flight is None and time.monotonic() >= self._try_at:
            self._flight = self._next_flight(spool)
        if spool is not None and not spool.is_empty:
            self._move_queue_to(spool)
        if self._flight is None:
            self._wait_for_work(spool)
            return
        assert self._producer is not None, "what flies was launched"
        self._producer.poll(_POLL_SECONDS)
        if self._flight.open == 0:
            self._settle(self._flight, spool)
        elif self._is_overdue(self._flight, has_spool=spool is not None):
            self._recall(self._flight, spool)

    def _ready_spool(self) -> Spool | None:
        directory = self._options.spool_directory
        if directory is None:
            return None
        try:
            if self._spool is None:
                bytes_max = self._options.spool_bytes_max
                self._spool = Spool(directory, bytes_max=bytes_max, telling=self._telling)
            if self._spool.is_empty and time.monotonic() >= self._adopt_at:
                self._adopt_at = time.monotonic() + _ADOPT_SECONDS
                self._spool.adopt()
        except OSError as error:
            self._trouble(Problem("spool_unwritable", str(error)))
        return self._spool

    def _next_flight(self, spool: Spool | None) -> _Flight | None:
        if spool is not None and not spool.is_empty:
            if not self._again:
                self._again = spool.head(FLIGHT_EVENTS_MAX, FLIGHT_BYTES_MAX)
                self._head_events = len(self._again)
            if self._again:
                return self._launch(self._again, from_spool=True)
        entries = self._taken(FLIGHT_EVENTS_MAX, FLIGHT_BYTES_MAX)
        return self._launch(entries, from_spool=False) if entries else None

    def _taken(self, events_max: int, bytes_max: int) -> list[Entry]:
        """The oldest of the queue. They still count as waiting."""
        with self._condition:
            taken: list[Entry] = []
            size = 0
            while self._queue and len(taken) < events_max and size < bytes_max:
                taken.append(self._queue.popleft())
                size += len(taken[-1].value)
            return taken

    def _put_back(self, entries: list[Entry]) -> None:
        with self._condition:
            self._queue.extendleft(reversed(entries))

    def _launch(self, entries: list[Entry], *, from_spool: bool) -> _Flight:
        if self._producer is None:
            settings: dict[str, Any] = {
                "delivery.timeout.ms": self._options.delivery_timeout_ms,
                "reconnect.backoff.max.ms": 1000,
                "log_level": 0,  # Its troubles are told by `on_problem`, once.
            }
            self._producer = producer(self._options.kafka, **settings)
        flight = _Flight(entries, from_spool=from_spool)
        for index, entry in enumerate(entries):
            report = partial(flight.report, index)
            headers = with_trace(STRUCTURED_MODE, entry.trace)
            try:
                self._producer.produce(
                    self._topic, entry.value, entry.key, headers=headers, on_delivery=report
                )
            except KafkaException as error:
                flight.open -= 1
                flight.error = flight.error or error.args[0]
        return flight

    def _is_overdue(self, flight: _Flight, *, has_spool: bool) -> bool:
        """Without a spool, or when it is closed, librdkafka's own timeout ends a flight."""
        if self._close_at is not None and time.monotonic() >= self._close_at:
            return True
        if flight.from_spool or not has_spool:
            return False
        age_seconds = time.monotonic() - flight.launched_at
        is_crowded = self._waiting > self._options.queue_events_max // 2
        return age_seconds > self._options.spool_after_ms / 1000 or (
            is_crowded and age_seconds > _CROWDED_FLIGHT_SECONDS
        )

    def _recall(self, flight: _Flight, spool: Spool | None) -> None:
        """What Kafka has not acknowledged is ours again. It may have it all the same; then it is sent twice, with
        one id."""
        assert self._producer is not None, "what flies was launched"
        self._producer.purge()
        while flight.open:
            self._producer.poll(_POLL_SECONDS)
        self._settle(flight, spool)

    def _settle(self, flight: _Flight, spool: Spool | None) -> None:
        self._flight = None
        landed, left = flight.landed(), flight.left()
        self._count_published(flight, landed)
        if not left:
            self._troubles.discard("kafka_away")
        else:
            self._telling.count("failed_tries")
            why = flight.error.str() if flight.error is not None else "no answer"
            self._trouble(Problem("kafka_away", f"{len(left)} events not acknowledged: {why}"))
            # An idempotent producer that has lost its place may be of no more use: the next flight has a new one.
            self._producer = None
            self._try_at = time.monotonic() + _RETRY_SECONDS
        if flight.from_spool:
            self._again = left
            if not left:
                assert spool is not None, "it came from there"
                spool.advance(self._head_events)
        else:
            self._acknowledge(landed, "published")
            self._put_back(left)
            if left and spool is not None:
                self._move_queue_to(spool)

    def _move_queue_to(self, spool: Spool) -> None:
        if time.monotonic() < self._spool_at:
            return
        entries = self._taken(self._options.queue_events_max, self._options.queue_bytes_max)
        written = 0
        try:
            written = spool.append(entries)
        except OSError as error:
            self._trouble(Problem("spool_unwritable", str(error)))
        else:
            self._troubles.discard("spool_unwritable")
            if written < len(entries):
                full = f"{spool.size_bytes} bytes; what does not fit waits in memory"
                self._trouble(Problem("spool_full", full))
            else:
                self._troubles.discard("spool_full")
        self._acknowledge(entries[:written], "spooled")
        if written < len(entries):
            self._put_back(entries[written:])
            self._spool_at = time.monotonic() + _RETRY_SECONDS

    def _acknowledge(self, entries: list[Entry], how: Acknowledgement) -> None:
        if not entries:
            return
        if how == "spooled":
            self._telling.count("spooled", len(entries))
        for entry in entries:
            if entry.waiting is not None:
                entry.waiting.set_result(how)
        self._no_longer_wait(entries)

    def _no_longer_wait(self, entries: list[Entry]) -> None:
        with self._condition:
            self._waiting -= len(entries)
            self._waiting_bytes -= sum(len(entry.value) for entry in entries)
            self._condition.notify_all()

    def _count_published(self, flight: _Flight, landed: list[Entry]) -> None:
        self._telling.count("published", len(landed))
        if not flight.from_spool:
            return
        oldest = now() - self._options.window_hours * HOUR_MS
        late = sum(time_of(entry) < oldest for entry in landed)
        if late:
            self._telling.count("too_late", late)
            hours = self._options.window_hours
            self._telling.tell(
                Problem("too_late", f"published more than {hours} h after their time", events=late)
            )

    def _trouble(self, problem: Problem) -> None:
        """Tell it when it begins, not each time that it is noticed."""
        if problem.kind not in self._troubles:
            self._troubles.add(problem.kind)
            self._telling.tell(problem)

    def _wait_for_work(self, spool: Spool | None) -> None:
        pause_seconds = self._try_at - time.monotonic()
        if pause_seconds > 0:
            # Events may come meanwhile, and the spool is what acknowledges them.
            time.sleep(min(pause_seconds, _POLL_SECONDS))
            return
        with self._condition:
            self._condition.wait_for(
                lambda: self._queue or self._close_at is not None,
                _ASLEEP_SECONDS if spool is None else _ADOPT_SECONDS,
            )

    def _end(self) -> None:
        """The time to close is over, or nothing is left in memory."""
        if self._flight is not None:
            self._recall(self._flight, self._spool)
        self._spool_at = 0.0
        if self._spool is not None:
            self._move_queue_to(self._spool)
            self._spool.close()
        left = self._taken(self._options.queue_events_max, self._options.queue_bytes_max)
        self._producer = None
        if not left:
            return
        self._telling.count("not_sent", len(left))
        detail = "Kafka did not acknowledge it, and no spool took it, before the client was closed"
        self._telling.tell(Problem("not_sent", detail, events=len(left)))
        for entry in left:
            if entry.waiting is not None:
                entry.waiting.set_exception(NotRecordedError("not_sent", entry.event_id, detail))
        self._no_longer_wait(left)
