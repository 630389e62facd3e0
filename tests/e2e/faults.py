"""Faults at random moments: kill -9, and stopping a process beyond its session. From a seed."""

import contextlib
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from pipeline.local.child import Child
from pipeline.local.stack import LocalStack

POSTPONE_SECONDS = 0.5
"""A victim that is not running, or is stopped, is tried again so much later."""
START_SHARE, END_SHARE = 0.05, 0.9
"""Faults happen in this part of the publishing, so that all of them meet a pipeline at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    at_seconds: float
    kind: Literal["kill", "stop", "continue"]
    process: str
    pause_seconds: float = 0
    """Of a stop: how long the process stands still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffered:
    """A fault as it happened."""

    at_seconds: float
    kind: str
    process: str
    pid: int


def schedule(
    *,
    processes: Sequence[str],
    paused: Sequence[str],
    kills: int,
    pause_seconds: float,
    seconds: float,
    seed: int,
) -> list[Fault]:
    """Each of `processes` killed so many times, each of `paused` stopped once, to be continued after the pause."""
    chance = Random(seed)
    start, end = seconds * START_SHARE, seconds * END_SHARE
    faults = [
        Fault(at_seconds=chance.uniform(start, end), kind="kill", process=process)
        for process in processes
        for _ in range(kills)
    ]
    for process in paused:
        at = chance.uniform(start, max(start, end - pause_seconds))
        faults.append(Fault(at_seconds=at, kind="stop", process=process, pause_seconds=pause_seconds))
    return sorted(faults, key=lambda fault: fault.at_seconds)


@dataclass(slots=True)
class Injector:
    """Does what is due. A process that is down or stopped when its turn comes has it a little later."""

    stack: LocalStack
    due: list[Fault]
    began: float = field(default_factory=time.monotonic)
    suffered: list[Suffered] = field(default_factory=list)
    stopped: dict[str, Child] = field(default_factory=dict)

    def step(self) -> None:
        now = time.monotonic() - self.began
        while self.due and self.due[0].at_seconds <= now:
            fault = self.due.pop(0)
            if not self._inject(fault, now):
                self._postpone(fault)

    def finish(self) -> None:
        """Everything that is still due, without waiting for more work."""
        while self.due:
            self.step()
            time.sleep(0.05)

    def release(self) -> None:
        """Continue whatever is stopped: nothing may stay behind."""
        for child in self.stopped.values():
            with contextlib.suppress(ProcessLookupError):
                child.signal(signal.SIGCONT)

    def _postpone(self, fault: Fault) -> None:
        self._add(replace(fault, at_seconds=fault.at_seconds + POSTPONE_SECONDS))

    def _add(self, fault: Fault) -> None:
        self.due.append(fault)
        self.due.sort(key=lambda each: each.at_seconds)

    def _inject(self, fault: Fault, now: float) -> bool:
        if fault.kind == "continue":
            child = self.stopped.pop(fault.process)
            child.signal(signal.SIGCONT)
        else:
            child = self.stack.child(fault.process)
            if fault.process in self.stopped or child.exit_code() is not None:
                return False
            if fault.kind == "kill":
                child.kill()
            else:
                self._stop(fault, child, now)
        self.suffered.append(
            Suffered(at_seconds=round(now, 2), kind=fault.kind, process=fault.process, pid=child.pid)
        )
        return True

    def _stop(self, fault: Fault, child: Child, now: float) -> None:
        child.signal(signal.SIGSTOP)
        self.stopped[fault.process] = child
        self._add(Fault(at_seconds=now + fault.pause_seconds, kind="continue", process=fault.process))

    def summary(self) -> list[dict[str, Any]]:
        return [
            {"at_seconds": each.at_seconds, "kind": each.kind, "process": each.process, "pid": each.pid}
            for each in self.suffered
        ]
