"""Keeps children running: starts them, watches them, starts them again with back-off, stops them in order.

One thread watches. A child that ends is started again after a delay that doubles up to a limit, and a child that
stays unwell is killed and started again: alive is not enough. Logs are cut when they reach their size.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from pipeline.local.child import Child, ChildFailedError, Group, Program, log_tail
from pipeline.local.home import ChildState

WATCH_SECONDS: Final = 0.2
HEALTH_SECONDS: Final = 2
"""Between two health checks of all children."""
UNWELL_SECONDS_MAX: Final = 60
"""Then a child that was well is killed. Longer than a fault test stops one."""
STARTING_SECONDS_MAX: Final = 600
"""Then one that never was well is killed: a broker that reads its whole log after a crash must come to its end."""
DELAY_SECONDS_FIRST: Final = 0.25
DELAY_SECONDS_MAX: Final = 15
STEADY_SECONDS: Final = 20
"""A child that lived so long starts its delays from the first again."""
LOG_BYTES_MAX: Final = 20_000_000
START_POLL_SECONDS: Final = 0.03


@dataclass(slots=True)
class _Watched:
    child: Child
    started: float
    healthy: bool = False
    was_well: bool = False
    well_at: float = 0.0
    restarts: int = 0
    quick_ends: int = 0
    start_again_at: float | None = None
    stays_down: bool = False
    started_at: float = field(default=0.0)


class Supervisor:
    """Children by name, in the order of their start."""

    def __init__(self, group: Group, logs: Path, on_change: Callable[[tuple[ChildState, ...]], None]) -> None:
        self._group = group
        self._logs = logs
        self._on_change = on_change
        self._told: tuple[ChildState, ...] = ()
        self._children: dict[str, _Watched] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def start(self, program: Program) -> None:
        """Starts a child that from now on is kept running."""
        with self._lock:
            watched = self._children[program.name] = self._spawned(program)
            watched.healthy = program.healthy()
            self._tell()

    def wait_until(self, name: str, is_up: Callable[[], bool]) -> None:
        """Waits for a child's first readiness; raises with the end of its log when it does not come."""
        child = self.child(name)
        until = time.monotonic() + child.program.start_seconds_max
        while not is_up():
            problem = self._problem(child, until)
            if problem is not None:
                raise ChildFailedError(f"{name} {problem}. The end of {child.log}:\n{log_tail(child.log)}")
            time.sleep(START_POLL_SECONDS)
        with self._lock:
            self._children[name].healthy = True
        self._tell()

    def _problem(self, child: Child, until: float) -> str | None:
        code = child.exit_code()
        if code is not None:
            return f"was expected to come up and ended with exit code {code}"
        if time.monotonic() > until:
            return f"was expected to be ready within {child.program.start_seconds_max} s"
        return "was asked to stop while it started" if self._closing.is_set() else None

    def child(self, name: str) -> Child:
        """The child that now has this name."""
        with self._lock:
            return self._children[name].child

    def keep_down(self, name: str) -> None:
        """From now on this child is not started again when it ends."""
        with self._lock:
            self._children[name].stays_down = True

    def keep_up(self, name: str) -> None:
        """Ends `keep_down`."""
        with self._lock:
            self._children[name].stays_down = False

    def states(self) -> tuple[ChildState, ...]:
        with self._lock:
            return tuple(_state(watched) for watched in self._children.values())

    def is_watching(self) -> bool:
        """False when the watching thread ended by an error of ours: then nothing restarts any more."""
        return self._watcher.is_alive()

    def give_up(self) -> None:
        """Ends the waiting for children that are not needed any more."""
        self._closing.set()

    def close(self) -> None:
        """Stops all children, stage by stage."""
        self._closing.set()
        self._watcher.join()
        children = [watched.child for watched in self._children.values()]
        for stage in sorted({child.program.stage for child in children}, reverse=True):
            together = [child for child in children if child.program.stage == stage]
            for child in together:
                child.ask_to_stop()
            for child in together:
                child.stop()

    def _spawned(self, program: Program) -> _Watched:
        child = Child(program, self._group, self._logs / f"{program.name}.log")
        now = time.monotonic()
        return _Watched(child, started=now, well_at=now, started_at=_created(child.pid))

    def _watch(self) -> None:
        next_check = 0.0
        while not self._closing.wait(WATCH_SECONDS):
            self._group.guard()
            with self._lock:
                for name in self._children:
                    self._keep_running(name)
            self._tell()
            if time.monotonic() >= next_check:
                self._check_health()
                self._cut_logs()
                next_check = time.monotonic() + HEALTH_SECONDS
            self._tell()

    def _keep_running(self, name: str) -> None:
        watched = self._children[name]
        code = watched.child.exit_code()
        if code is None or watched.stays_down:
            return
        now = time.monotonic()
        if watched.start_again_at is None:
            watched.healthy = False
            watched.quick_ends = 1 if now - watched.started > STEADY_SECONDS else watched.quick_ends + 1
            watched.start_again_at = now + min(
                DELAY_SECONDS_MAX, DELAY_SECONDS_FIRST * 2 ** (watched.quick_ends - 1)
            )
        elif now >= watched.start_again_at:
            again = self._spawned(watched.child.program)
            again.restarts, again.quick_ends = watched.restarts + 1, watched.quick_ends
            self._children[name] = again

    def _check_health(self) -> None:
        with self._lock:
            children = list(self._children.values())
        for watched in children:
            # Outside the lock: a probe may wait for its timeout.
            watched.healthy = watched.child.exit_code() is None and watched.child.program.healthy()
            now = time.monotonic()
            if watched.healthy:
                watched.well_at, watched.was_well = now, True
                continue
            seconds_max = UNWELL_SECONDS_MAX if watched.was_well else STARTING_SECONDS_MAX
            if now - watched.well_at > seconds_max and watched.child.exit_code() is None:
                watched.child.signal(signal.SIGKILL)

    def _cut_logs(self) -> None:
        for log in self._logs.glob("*.log"):
            if log.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                # Children append: after this they go on at the new end.
                with log.open("r+b") as file:
                    file.truncate(0)

    def _tell(self) -> None:
        with self._lock:
            states = self.states()
            if states != self._told:
                self._told = states
                self._on_change(states)


def _state(watched: _Watched) -> ChildState:
    program = watched.child.program
    return ChildState(
        name=program.name,
        pid=watched.child.pid,
        started_at=watched.started_at,
        restarts=watched.restarts,
        healthy=watched.healthy,
        ports=program.ports,
    )


def _created(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:  # It has ended already.
        return 0.0
