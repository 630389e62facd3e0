"""Strikes a program inside a phase: leaves the order, waits until a process stands there, strikes, lets it go.

A strike counts when the process that took the order was alive and still held in its phase when it was struck.
Programs are struck side by side, each by one thread; a server is struck by one of them at a time.
"""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import psutil

from pipeline.chaos.plan import AFTER_ASSIGNMENT, ChaosPlan, Fault, Kind
from pipeline.chaos.progress import Progress
from pipeline.chaos.starving import full_disk, read_only
from pipeline.crash_points import NO_PARTITION, PROGRAMS, Phase
from pipeline.kafka import topic_name
from pipeline.local.child import Child
from pipeline.local.stack import LocalStack
from schemas.topics import IDENTITIES

POLL_SECONDS: Final = 0.01
REACH_SECONDS_MAX: Final = 90
"""For any process of the program to come into the phase; on top of an outage of ClickHouse, which others may make."""
NUDGE_SECONDS: Final = 15
"""So often a member is struck, where a phase is only reached when partitions are given out."""
TRIES_MAX: Final = 3
STOP_SECONDS_MAX: Final = 10
"""For the system to show a stopped or killed process as such."""
ELSEWHERE_SECONDS_MAX: Final = 20
"""For a stopped process's partition to go on with another owner: its session, fence and load."""
ALONE_PAUSE_SECONDS: Final = 3
"""For a program whose progress is not watched."""
WATCHED: Final = frozenset({"worker", "sink"})
"""Programs whose progress shows that a fault is over."""
ADDED_SECONDS: Final = 8
"""How long a member more is there."""
DISK_SECONDS: Final = 3
"""How long a worker's disk refuses."""
SERVER_PAUSE_SECONDS: Final = 8
"""Longer than the sessions of workers and sinks."""
SERVER_START_SECONDS_MAX: Final = 300
"""For a broker that reads its log anew after a crash."""
REMOVED_SECONDS: Final = 10
"""How long a member is missing."""
REBALANCE_SECONDS: Final = 3
"""How long a process is held in its phase after another member left the group."""
MEMBERS_SECONDS_MAX: Final = 30
"""For those that were struck before to be started again."""
NEED_OTHERS: Final = frozenset({Kind.REBALANCE, Kind.REMOVE, Kind.PAUSE})
"""What proves nothing without somebody who takes over."""
RECOVERY_SECONDS_MAX: Final = 60
"""Waited for at most before the next strike; what takes longer is still measured."""
PATIENT_SHARE: Final = 0.5
"""Of strikes after which recovery is waited for: the others come on top of each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault as it happened."""

    fault: Fault | None
    """None: a nudge, at any moment."""
    kind: Kind
    process: str
    pid: int
    partition: int
    """The one that it worked at in its phase; `NO_PARTITION` for all of its partitions."""
    at: float
    """Of the monotonic clock, in seconds."""
    went_elsewhere: bool | None = None
    """Of a pause: whether the partition went on with another owner before the process woke up."""


class NotReachedError(Exception):
    """No process came into the phase, or it had left it when it was struck."""


class Striker:
    """Does one fault after the other."""

    def __init__(self, stack: LocalStack, plan: ChaosPlan, orders: Path, progress: Progress) -> None:
        self._stack = stack
        self._plan = plan
        self._orders = orders
        self._progress = progress
        self._chance = Random(plan.seed + 1)  # noqa: S311  (a run must repeat, not be secret)
        self._stopped: list[Child] = []
        self._servers = {name: threading.Lock() for name in ("kafka", "clickhouse")}
        self.ended = threading.Event()
        """Nothing more is struck: whoever waits for a phase, or for a recovery, waits no longer."""
        self.struck: list[Struck] = []

    def strike(self, fault: Fault) -> str | None:
        """Do it, a few times over if it misses. Why it missed all the same; None if it was done, or the run ended."""
        why = ""
        for _ in range(TRIES_MAX):
            try:
                self._strike(fault)
            except NotReachedError as error:
                why = str(error)
            else:
                return None
            finally:
                (self._orders / fault.phase).unlink(missing_ok=True)
            if self.ended.is_set():
                return None  # Not missed: it is not wanted any more.
        return why

    def release(self) -> None:
        """Continue whatever is stopped: nothing may stay behind."""
        for child in self._stopped:
            with suppress(ProcessLookupError):
                child.signal(signal.SIGCONT)

    def _strike(self, fault: Fault) -> None:
        if fault.kind in NEED_OTHERS:
            self._wait_for_members(fault.phase.program)
        with self._alone(fault.kind.server):
            held, name, child, partition = self._reached(fault.phase)
            at = time.monotonic()
            try:
                elsewhere = self._hit(fault, name, child, held, partition)
            finally:
                held.unlink(missing_ok=True)
        struck = Struck(
            fault=fault,
            kind=fault.kind,
            process=name,
            pid=child.pid,
            partition=partition,
            at=at,
            went_elsewhere=elsewhere,
        )
        self.struck.append(struck)
        if self._chance.random() < PATIENT_SHARE and _program(struck) in WATCHED:
            _wait_for(
                lambda: self.ended.is_set() or recovery(self._progress, struck) is not None,
                RECOVERY_SECONDS_MAX,
            )

    @contextmanager
    def _alone(self, server: str | None) -> Generator[None, None, None]:
        """Whoever strikes a server waits for its turn before a process stands in its phase, where it may not stay."""
        if server is None:
            yield
            return
        with self._servers[server]:
            yield

    def _reached(self, phase: Phase) -> tuple[Path, str, Child, int]:
        """The process that took the order: its file, name, handle and partition."""
        order = self._orders / phase
        order.touch()
        seconds_max = REACH_SECONDS_MAX + self._plan.outage_seconds
        until = time.monotonic() + seconds_max
        nudge_at = time.monotonic()
        while not (taken := list(self._orders.glob(f"{phase}.*"))):
            now = time.monotonic()
            if self.ended.is_set():
                raise NotReachedError("the run was ended")
            if now > until:
                raise NotReachedError(f"no process came into it within {seconds_max:.0f} s")
            if phase in AFTER_ASSIGNMENT and now >= nudge_at:
                nudge_at = now + NUDGE_SECONDS
                self._nudge(phase)
            time.sleep(POLL_SECONDS)
        held = taken[0]
        _, pid, partition = held.name.split(".")
        for state in self._stack.states():
            child = self._stack.child(state.name)
            if child.pid == int(pid) and child.exit_code() is None:
                return held, state.name, child, int(partition)
        held.unlink()
        raise NotReachedError(f"process {pid} had ended when it was to be struck")

    def _nudge(self, phase: Phase) -> None:
        """Strike any member at any moment, so that partitions are given out anew."""
        if phase is Phase.SINK_REPEATING:
            self._leave_a_plan()
            return
        members = self._members(phase.program)
        if not members:
            return
        name = self._chance.choice(members)
        kind = self._chance.choice((Kind.KILL, Kind.KILL, Kind.TERM))
        child, at = self._stack.child(name), time.monotonic()
        child.signal(signal.SIGKILL if kind is Kind.KILL else signal.SIGTERM)
        partition = NO_PARTITION
        self.struck.append(
            Struck(fault=None, kind=kind, process=name, pid=child.pid, partition=partition, at=at)
        )

    def _leave_a_plan(self) -> None:
        """Kill a sink between a plan and its insert, so that there is something to repeat."""
        held, name, child, partition = self._reached(Phase.SINK_PLANNED)
        at = time.monotonic()
        child.kill()
        held.unlink(missing_ok=True)
        fault = Fault(phase=Phase.SINK_PLANNED, kind=Kind.KILL)
        self.struck.append(
            Struck(fault=fault, kind=Kind.KILL, process=name, pid=child.pid, partition=partition, at=at)
        )

    def _wait_for_members(self, program: str) -> None:
        wanted = {"worker": self._plan.workers, "sink": self._plan.sinks}.get(program, 1)
        _wait_for(lambda: len(self._members(program)) == wanted, MEMBERS_SECONDS_MAX)

    def _members(self, program: str, *, but: str = "") -> list[str]:
        return [
            state.name
            for state in self._stack.states()
            if state.name.startswith(f"{program}-")
            and state.name != but
            and self._stack.child(state.name).exit_code() is None
        ]

    def _hit(self, fault: Fault, name: str, child: Child, held: Path, partition: int) -> bool | None:
        program = fault.phase.program
        match fault.kind:
            case Kind.PAUSE:
                return self._pause(program, child, held, partition)
            case Kind.REBALANCE:
                self._rebalance(program, name, held)
            case Kind.REMOVE:
                self._remove(name, child, held)
            case Kind.ADD:
                self._add(program, held)
            case Kind.DISK_FULL | Kind.DISK_READ_ONLY:
                self._starve(fault.kind, child, held, partition)
            case Kind.KILL:
                child.signal(signal.SIGKILL)
                _wait_for(lambda: child.exit_code() is not None, STOP_SECONDS_MAX)
                _let_go(held)
            case Kind.TERM:
                child.signal(signal.SIGTERM)
                _let_go(held)
            case kind:
                assert kind.server is not None
                self._hit_server(kind, kind.server, held)
        return None

    def _pause(self, program: str, child: Child, held: Path, partition: int) -> bool | None:
        self._stop(child)
        _let_go(held)
        try:
            if program not in WATCHED:
                time.sleep(ALONE_PAUSE_SECONDS)
                return None
            stopped_at, partitions = time.monotonic(), [partition] if partition != NO_PARTITION else []
            return _wait_for(
                lambda: self._progress.recovery(program, partitions, stopped_at) is not None,
                ELSEWHERE_SECONDS_MAX,
            )
        finally:
            self._go_on(child)

    def _stop(self, child: Child) -> None:
        child.signal(signal.SIGSTOP)
        try:
            process = psutil.Process(child.pid)
            stands = _wait_for(lambda: process.status() == psutil.STATUS_STOPPED, STOP_SECONDS_MAX)
        except psutil.NoSuchProcess:
            stands = False
        if not stands:
            raise NotReachedError("the process ended before it could be stopped")
        self._stopped.append(child)

    def _go_on(self, child: Child) -> None:
        child.signal(signal.SIGCONT)
        self._stopped.remove(child)

    def _rebalance(self, program: str, name: str, held: Path) -> None:
        others = self._members(program, but=name)
        if not others:
            raise NotReachedError("no other member was alive")
        self._stack.child(self._chance.choice(others)).signal(signal.SIGTERM)
        time.sleep(REBALANCE_SECONDS)
        _let_go(held)

    def _remove(self, name: str, child: Child, held: Path) -> None:
        self._stack.keep_down(name)
        try:
            child.signal(signal.SIGTERM)
            _let_go(held)
            time.sleep(REMOVED_SECONDS)
        finally:
            self._stack.keep_up(name)

    def _add(self, program: str, held: Path) -> None:
        name = self._stack.add(program)
        try:
            time.sleep(REBALANCE_SECONDS)
            _let_go(held)
            time.sleep(ADDED_SECONDS)
        finally:
            self._stack.keep_down(name)
            self._stack.child(name).signal(signal.SIGTERM)

    def _starve(self, kind: Kind, child: Child, held: Path, partition: int) -> None:
        settings = self._stack.settings
        files = settings.home / "identities" / topic_name(settings.kafka, IDENTITIES) / str(partition)
        with full_disk(child.pid) if kind is Kind.DISK_FULL else read_only(files):
            _let_go(held)
            time.sleep(DISK_SECONDS)

    def _hit_server(self, kind: Kind, server: str, held: Path) -> None:
        child = self._stack.child(server)
        match kind:
            case Kind.KAFKA_PAUSE | Kind.CLICKHOUSE_PAUSE:
                self._stop(child)
                _let_go(held)
                time.sleep(SERVER_PAUSE_SECONDS)
                self._go_on(child)
            case Kind.CLICKHOUSE_AWAY:
                self._stack.keep_down(server)
                child.kill()
                _let_go(held)
                time.sleep(self._plan.outage_seconds)
                self._stack.keep_up(server)
            case Kind.KAFKA_RESTART | Kind.CLICKHOUSE_RESTART:
                child.signal(signal.SIGTERM)
                _let_go(held)
                _wait_for(lambda: child.exit_code() is not None, SERVER_START_SECONDS_MAX)
            case Kind.KAFKA_FULL | Kind.CLICKHOUSE_FULL:
                with full_disk(child.pid):
                    _let_go(held)
                    _wait_for(lambda: child.exit_code() is not None, SERVER_PAUSE_SECONDS)
            case _:
                child.kill()
                _let_go(held)
        _wait_for(lambda: self._is_up(server), SERVER_START_SECONDS_MAX)

    def _is_up(self, server: str) -> bool:
        child = self._stack.child(server)
        return child.exit_code() is None and child.program.healthy()


def recovery(progress: Progress, struck: Struck) -> float | None:
    """Seconds until the struck partitions went on; None while they have not, and for what is not watched."""
    program = _program(struck)
    if program not in WATCHED:
        return None
    # A server is everybody's.
    of_one = struck.partition != NO_PARTITION and struck.kind.server is None
    return progress.recovery(program, [struck.partition] if of_one else [], struck.at)


def _program(struck: Struck) -> str:
    """Whose progress shows that it is over; the workers' for a server that was struck in a phase of others."""
    program = next(program for program in PROGRAMS if struck.process.startswith(program))
    return "worker" if program not in WATCHED and struck.kind.server is not None else program


def _let_go(held: Path) -> None:
    try:
        held.unlink()
    except FileNotFoundError:
        raise NotReachedError("the process had left the phase by itself") from None


def _wait_for(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_SECONDS)
    return True
