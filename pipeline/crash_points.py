"""Named phases of the programs, where `creditstream chaos` strikes them. Off, a point is a call of nothing.

An order is an empty file named after its phase in the directory that `CREDITSTREAM_CRASH_POINTS` names. The first
process to reach that phase takes the order by renaming it to PHASE.PID.PARTITION, which also says that it is there,
and waits until somebody removes the file: so whatever strikes it meanwhile, strikes it inside the phase.
"""

import asyncio
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Final

from pipeline.settings import crash_points_directory

HELD_SECONDS_MAX: Final = 30.0
"""Then the process goes on by itself and removes the file: nobody came."""
POLL_SECONDS: Final = 0.005
NO_PARTITION: Final = -1


class Phase(StrEnum):
    """All of them, in the order in which a program passes them."""

    WORKER_ASSIGNED = "worker-assigned"
    WORKER_FENCING = "worker-fencing"
    """Before the fence."""
    WORKER_LOADING = "worker-loading"
    """Fenced, with the rows in memory and without the identities."""
    WORKER_POLLED = "worker-polled"
    """Records are read and not yet in line."""
    WORKER_COMPUTING = "worker-computing"
    WORKER_PRODUCING = "worker-producing"
    """In the transaction, before its cursor."""
    WORKER_COMMITTING = "worker-committing"
    """All is in the transaction, which is not yet committed."""
    WORKER_COMMITTED = "worker-between-commit-and-memory"
    WORKER_CLOSING = "worker-closing-hour"
    """Before the identities of a passed hour are put into a file."""
    WORKER_CLOSED = "worker-closed-hour"
    """They stand in a file that has not its name yet."""
    SINK_FENCING = "sink-fencing"
    SINK_REPEATING = "sink-repeating"
    """About to insert what the owner before had planned."""
    SINK_PLANNING = "sink-planning"
    """Before a plan is written."""
    SINK_PLANNED = "sink-planned"
    """Written; nothing of it is inserted."""
    SINK_INSERTING = "sink-inserting"
    """A part of the plan's blocks is inserted."""
    SINK_INSERTED = "sink-inserted"
    """All of them are; the next plan would say so."""
    SCHEDULER_TICKING = "scheduler-ticking"
    SCHEDULER_TICKED = "scheduler-ticked"
    """Ticks are on their way and not acknowledged."""
    PAYMENTS_ASKING = "payments-asking"
    """An order is read, and nobody has been asked for its money."""
    PAYMENTS_ANSWERING = "payments-answering"
    """The provider has answered; the log does not know it."""
    PAYMENTS_ANSWERED = "payments-answered"
    """The log has the answer; the order's place is not committed."""
    LATE_LANE_LOOKING = "late-lane-looking"
    """Late events are read, and ClickHouse has not been asked for them."""
    LATE_LANE_LOOKED = "late-lane-looked"
    """What the records know of them is known; nothing is published."""
    LATE_LANE_PUBLISHED = "late-lane-published"
    """They are put back; their place is not committed."""

    @property
    def program(self) -> str:
        """Which of `PROGRAMS` passes it."""
        return next(program for program in PROGRAMS if self.startswith(program))


PROGRAMS: Final = ("worker", "sink", "scheduler", "payments", "late-lane")


def _nothing(phase: Phase, partition: int = NO_PARTITION) -> None:
    """The point is off."""


async def _nothing_async(phase: Phase, partition: int = NO_PARTITION) -> None:
    """The point is off."""


def _hold(phase: Phase, partition: int = NO_PARTITION) -> None:
    held = _taken(phase, partition)
    until = time.monotonic() + HELD_SECONDS_MAX
    while held is not None and held.exists():
        time.sleep(POLL_SECONDS)
        if time.monotonic() > until:
            held.unlink(missing_ok=True)


async def _hold_async(phase: Phase, partition: int = NO_PARTITION) -> None:
    held = _taken(phase, partition)
    until = time.monotonic() + HELD_SECONDS_MAX
    while held is not None and held.exists():
        await asyncio.sleep(POLL_SECONDS)
        if time.monotonic() > until:
            held.unlink(missing_ok=True)


def _taken(phase: Phase, partition: int) -> Path | None:
    assert _DIRECTORY is not None
    held = _DIRECTORY / f"{phase}.{os.getpid()}.{partition}"
    try:
        (_DIRECTORY / phase).rename(held)
    except FileNotFoundError:
        return None  # No order, or another process was here first.
    return held


_DIRECTORY: Final = crash_points_directory()

reached = _nothing if _DIRECTORY is None else _hold
"""Call it where a phase begins. Blocks the thread while the process is held."""

reached_async = _nothing_async if _DIRECTORY is None else _hold_async
"""As `reached`; the event loop turns while the process is held."""
