"""Faults side by side: each program has its own, one after the other, and none runs far ahead of the slowest."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from pipeline.chaos.plan import Fault
from pipeline.chaos.strikes import Striker

SECONDS_A_FAULT: Final = 6
"""What a fault is thought to take until some were done: the load is spread over the faults."""
FAULTS_KNOWN: Final = 5
AHEAD_SHARE_MAX: Final = 0.1
"""Of its faults, that a program may be ahead of the slowest, so that the load meets all of them to its end."""
ROUNDS_MAX: Final = 4
"""A fault that missed comes once more after all others of its program, so often in all."""
MISSED_IN_A_ROW_MAX: Final = 3
"""Then the program is gone, and will not be there for the next fault."""
POLL_SECONDS: Final = 0.05


@dataclass(slots=True)
class _Lane:
    planned: Sequence[Fault]
    began: float = field(default_factory=time.monotonic)
    done: list[float] = field(default_factory=list[float])
    """When each was over, of the monotonic clock."""

    @property
    def is_over(self) -> bool:
        return len(self.done) >= len(self.planned)

    def share(self) -> float:
        """How much of all its faults is done by now, the one that is under way by its expected part."""
        count = len(self.done)
        if self.is_over:
            return 1.0
        last = self.done[-1] if self.done else self.began
        each = (last - self.began) / count if count >= FAULTS_KNOWN else SECONDS_A_FAULT
        # Ever slower and never at an end: what takes long must still have something to do.
        running: float = 1 - 0.5 ** ((time.monotonic() - last) / each)
        return (count + running) / len(self.planned)


class Lanes:
    """All faults of a run. `strike` returns when none is left, or when `ended` is set."""

    def __init__(
        self, planned: Mapping[str, Sequence[Fault]], striker: Striker, say: Callable[[str], None]
    ) -> None:
        self.ended = striker.ended
        """Set by whoever knows that the run has its verdict already, or wants none any more."""
        self._lanes = {program: _Lane(of_program) for program, of_program in planned.items()}
        self._striker = striker
        self._say = say
        self.missed: list[str] = []
        """Faults that were given up, each with its reason."""
        self._began = time.monotonic()

    @property
    def planned(self) -> int:
        """Faults in all."""
        return sum(len(lane.planned) for lane in self._lanes.values())

    @property
    def done(self) -> int:
        """Faults that are over, those that missed included."""
        return sum(len(lane.done) for lane in self._lanes.values())

    def share(self) -> float:
        """How much of all faults is done by now, from 0 to 1; not the slowest program's share, which may need load."""
        return sum(lane.share() * len(lane.planned) for lane in self._lanes.values()) / self.planned

    def strike(self, pool: ThreadPoolExecutor, *, seconds_min: float) -> list[Future[None]]:
        """Begin with all of them; they take at least so long."""
        self._began = time.monotonic()
        for lane in self._lanes.values():
            lane.began = self._began
        return [pool.submit(self._strike_lane, lane, seconds_min) for lane in self._lanes.values()]

    def _strike_lane(self, lane: _Lane, seconds_min: float) -> None:
        missed = 0
        waiting = deque((fault, 1) for fault in lane.planned)
        while waiting:
            fault, tried = waiting.popleft()
            self._wait_for_turn(lane, self._began + seconds_min * len(lane.done) / len(lane.planned))
            if self.ended.is_set():
                return
            why = self._striker.strike(fault)
            missed = missed + 1 if why else 0
            what = f"{fault.kind} in {fault.phase}"
            if why and tried < ROUNDS_MAX and missed < MISSED_IN_A_ROW_MAX:
                waiting.append((fault, tried + 1))
                what = f"missed, to be tried again: {what}"
            else:
                lane.done.append(time.monotonic())
                if why:
                    self.missed.append(f"{what}: {why}")
                    what = f"missed: {what}"
            self._say(f"  {self.done}/{self.planned}  {time.monotonic() - self._began:.0f} s  {what}")
            if missed >= MISSED_IN_A_ROW_MAX:
                self.ended.set()

    def _wait_for_turn(self, lane: _Lane, not_before: float) -> None:
        def is_early() -> bool:
            ahead = len(lane.done) / len(lane.planned) - min(each.share() for each in self._lanes.values())
            return time.monotonic() < not_before or ahead > AHEAD_SHARE_MAX

        while is_early() and not self.ended.is_set():
            time.sleep(POLL_SECONDS)
