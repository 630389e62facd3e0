"""Which faults come, in which phase, in which order: all from the seed.

Each program has a lane of its own: its faults come one after the other, beside those of the others.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from random import Random
from typing import Final

from pipeline.crash_points import PROGRAMS, Phase


class Kind(StrEnum):
    """What is done while a program stands in its phase."""

    KILL = "kill"
    """SIGKILL."""
    TERM = "term"
    """SIGTERM."""
    PAUSE = "pause"
    """SIGSTOP until its partitions went elsewhere, then SIGCONT: a zombie."""
    REMOVE = "remove"
    """SIGTERM, and started again only after a while: a member fewer, then one more."""
    ADD = "add"
    """One more member joins while this one stands in its phase, and leaves again after a while."""
    REBALANCE = "rebalance"
    """Another member of its group goes and comes back, while this one stands in its phase."""
    DISK_FULL = "disk-full"
    """No file of this process may grow (RLIMIT_FSIZE), its log neither."""
    DISK_READ_ONLY = "disk-read-only"
    """The directory of its partition's identities takes no file and gives none up."""
    KAFKA_KILL = "kafka-kill"
    KAFKA_RESTART = "kafka-restart"
    """SIGTERM."""
    KAFKA_PAUSE = "kafka-pause"
    KAFKA_FULL = "kafka-full"
    """As `disk-full`, of the broker: it ends itself."""
    CLICKHOUSE_KILL = "clickhouse-kill"
    CLICKHOUSE_RESTART = "clickhouse-restart"
    CLICKHOUSE_PAUSE = "clickhouse-pause"
    CLICKHOUSE_FULL = "clickhouse-full"
    """As `kafka-full`; only where it is asked for. See `USUAL_KINDS`."""
    CLICKHOUSE_AWAY = "clickhouse-away"
    """Down for `ChaosPlan.outage_seconds`."""

    @property
    def server(self) -> str | None:
        """The server that is struck, for the kinds that do not strike the program itself."""
        name = self.partition("-")[0]
        return name if name in {"kafka", "clickhouse"} else None


USUAL_KINDS: Final = tuple(each for each in Kind if each is not Kind.CLICKHOUSE_FULL)
"""ClickHouse 26.9 may commit a part although the files of its skip indexes could not be written (EFBIG): selects that
use them fail from then on, and a restart sets the part aside. Nothing of ours can hinder that; reconcile names it, and
`creditstream rebuild clickhouse` mends it."""

_MEMBER: Final = (
    Kind.KILL,
    Kind.PAUSE,
    Kind.TERM,
    Kind.REBALANCE,
    Kind.KILL,
    Kind.PAUSE,
    Kind.REMOVE,
    Kind.ADD,
)
_WORKER: Final = (*_MEMBER, Kind.KAFKA_KILL, Kind.KAFKA_PAUSE, Kind.KAFKA_RESTART, Kind.KAFKA_FULL)
_SINK: Final = (
    *_MEMBER, Kind.CLICKHOUSE_KILL, Kind.CLICKHOUSE_PAUSE, Kind.CLICKHOUSE_RESTART, Kind.CLICKHOUSE_FULL,
    Kind.CLICKHOUSE_AWAY, Kind.KAFKA_KILL,
)  # fmt: skip
_ALONE: Final = (Kind.KILL, Kind.TERM, Kind.PAUSE)
KINDS: Final = {
    "worker": _WORKER,
    "sink": _SINK,
    "scheduler": (*_ALONE, *_ALONE, Kind.KAFKA_KILL),
    "payments": (*_ALONE, *_ALONE, Kind.KAFKA_RESTART),
    "late-lane": (*_ALONE, *_ALONE, Kind.CLICKHOUSE_KILL, Kind.KAFKA_KILL),
}
_DISK: Final = (Kind.DISK_READ_ONLY, Kind.KILL, Kind.DISK_FULL, Kind.PAUSE, Kind.DISK_READ_ONLY, Kind.TERM)
KINDS_OF_PHASE: Final = {
    Phase.WORKER_CLOSING: _DISK,
    # What it has written is there: a full disk does not hinder the new name.
    Phase.WORKER_CLOSED: tuple(kind for kind in _DISK if kind is not Kind.DISK_FULL),
}
"""In place of `KINDS`: only here is a disk written."""

AFTER_ASSIGNMENT: Final = frozenset({
    Phase.WORKER_ASSIGNED, Phase.WORKER_FENCING, Phase.WORKER_LOADING, Phase.SINK_FENCING, Phase.SINK_REPEATING
})  # fmt: skip
"""Reached only when partitions are given out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    events: int
    faults: int
    """Spread evenly over the phases."""
    seed: int
    workers: int = 2
    sinks: int = 2
    accounts: int = 2000
    partitions: int = 4
    duration_seconds: float = 0
    """The faults take at least this long; 0: as fast as each can be done."""
    outage_seconds: float = 20
    """How long ClickHouse is away."""
    hour_seconds: int = 15
    """How long the workers' hour of identities is, so that files are written all the time."""
    phases: tuple[Phase, ...] = tuple(Phase)
    kinds: tuple[Kind, ...] = USUAL_KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    phase: Phase
    kind: Kind


def lanes(plan: ChaosPlan) -> dict[str, list[Fault]]:
    """The faults of each program, in their order."""
    planned = faults(plan)
    by_program = {
        program: [fault for fault in planned if fault.phase.program == program] for program in PROGRAMS
    }
    return {program: of_program for program, of_program in by_program.items() if of_program}


def faults(plan: ChaosPlan) -> list[Fault]:
    """Every phase as often as every other, but for one; within a phase every kind in its turn."""
    chance = Random(plan.seed)  # noqa: S311  (a run must repeat, not be secret)
    by_phase = [cycle(_kinds(phase, plan, chance)) for phase in plan.phases]
    chosen = [
        Fault(phase=phase, kind=next(kinds))
        for phase, kinds in islice(cycle(zip(plan.phases, by_phase, strict=True)), plan.faults)
    ]
    chance.shuffle(chosen)
    return chosen


def _kinds(phase: Phase, plan: ChaosPlan, chance: Random) -> list[Kind]:
    known = KINDS_OF_PHASE.get(phase, KINDS[phase.program])
    kinds = [kind for kind in known if kind in plan.kinds and _applies(kind, phase, plan)]
    if not kinds:
        raise ValueError(f"expected a kind of fault for {phase}: one of {', '.join(dict.fromkeys(known))}")
    start = chance.randrange(len(kinds))
    return kinds[start:] + kinds[:start]


def _applies(kind: Kind, phase: Phase, plan: ChaosPlan) -> bool:
    members = {"worker": plan.workers, "sink": plan.sinks}.get(phase.program, 1)
    return members > 1 or kind not in {Kind.REBALANCE, Kind.REMOVE}
