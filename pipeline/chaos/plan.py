"""Which faults come, in which phase, in which order: all from the seed."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from random import Random
from typing import Final

from pipeline.crash_points import Phase


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
    REBALANCE = "rebalance"
    """Another member of its group goes and comes back, while this one stands in its phase."""
    KAFKA_KILL = "kafka-kill"
    KAFKA_RESTART = "kafka-restart"
    KAFKA_PAUSE = "kafka-pause"
    CLICKHOUSE_KILL = "clickhouse-kill"
    CLICKHOUSE_PAUSE = "clickhouse-pause"
    CLICKHOUSE_AWAY = "clickhouse-away"
    """Down for `ChaosPlan.outage_seconds`."""

    @property
    def server(self) -> str | None:
        """The server that is struck, for the kinds that do not strike the program itself."""
        name = self.partition("-")[0]
        return name if name in {"kafka", "clickhouse"} else None


_MEMBER: Final = (Kind.KILL, Kind.PAUSE, Kind.TERM, Kind.KILL, Kind.PAUSE, Kind.REMOVE)
_WORKER: Final = (*_MEMBER, Kind.KAFKA_KILL, Kind.REBALANCE, Kind.KAFKA_PAUSE, Kind.KAFKA_RESTART)
_SINK: Final = (
    *_MEMBER, Kind.CLICKHOUSE_KILL, Kind.KAFKA_KILL, Kind.CLICKHOUSE_PAUSE, Kind.REBALANCE, Kind.CLICKHOUSE_AWAY
)  # fmt: skip
_SCHEDULER: Final = (Kind.KILL, Kind.TERM, Kind.PAUSE, Kind.KAFKA_KILL)
KINDS: Final = {"worker": _WORKER, "sink": _SINK, "scheduler": _SCHEDULER}

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
    phases: tuple[Phase, ...] = tuple(Phase)
    kinds: tuple[Kind, ...] = tuple(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    phase: Phase
    kind: Kind


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
    kinds = [kind for kind in KINDS[phase.program] if kind in plan.kinds and _applies(kind, phase, plan)]
    assert kinds, f"expected a kind of fault for {phase} among {plan.kinds}"
    start = chance.randrange(len(kinds))
    return kinds[start:] + kinds[:start]


def _applies(kind: Kind, phase: Phase, plan: ChaosPlan) -> bool:
    members = {"worker": plan.workers, "sink": plan.sinks, "scheduler": 1}[phase.program]
    return members > 1 or kind not in {Kind.REBALANCE, Kind.REMOVE}
