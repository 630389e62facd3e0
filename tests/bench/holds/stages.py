"""Takes a round trip apart: what the broker, the worker and the reader noted, joined by partition and offset."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from tests.bench.holds.asking import Asked, Position

STAGES: Final[Mapping[str, str]] = {
    "round_trip": "due to be sent → answer read",
    "acknowledged": "due → the broker's acknowledgement, meanwhile",
    "append": "due → appended to the log",
    "poll": "appended → polled by the worker",
    "wait": "polled → its batch begins",
    "core": "in the core, with its batch",
    "commit": "the batch's transaction",
    "answer": "committed → answer read",
}
"""Name → what it measures. `append` to `answer` add up to `round_trip`."""

Times = Sequence[float]


@dataclass(slots=True)
class Steps:
    """One kind of step of one partition: the first one beyond an offset has taken that offset."""

    next_offsets: list[int] = field(default_factory=list[int])
    at: list[float] = field(default_factory=list[float])

    def of(self, offset: int) -> float:
        return self.at[bisect_right(self.next_offsets, offset)]

    def began(self, offset: int) -> float:
        """Of steps that name their first offset."""
        return self.at[bisect_right(self.next_offsets, offset) - 1]


def noted(steps: Iterable[str]) -> Mapping[tuple[str, int], Steps]:
    """Lines of `steps.log` by step and partition."""
    by_place: defaultdict[tuple[str, int], Steps] = defaultdict(Steps)
    for line in steps:
        at, step, partition, offset = line.split()
        one = by_place[step, int(partition)]
        one.next_offsets.append(int(offset))
        one.at.append(float(at))
    return by_place


def stages(asked: Asked, steps: Iterable[str], *, skip_seconds: float) -> dict[str, list[float]]:
    """Milliseconds of every stage, for every hold that was due after the warm-up."""
    by_place = noted(steps)
    first = min(each.due for each in asked.kept.values()) + skip_seconds
    taken: dict[str, list[float]] = {name: [] for name in STAGES}
    for position, kept in asked.kept.items():
        if kept.due >= first:
            for name, seconds in _taken(asked, position, by_place).items():
                taken[name].append(seconds * 1000)
    return taken


def _taken(asked: Asked, position: Position, steps: Mapping[tuple[str, int], Steps]) -> dict[str, float]:
    partition, offset = position
    kept, answered = asked.kept[position], asked.answered[position]
    polled = steps["polled", partition].of(offset)
    begun = steps["begun", partition].began(offset)
    folded = steps["folded", partition].of(offset)
    committed = steps["committed", partition].of(offset)
    return {
        "round_trip": answered - kept.due,
        "acknowledged": kept.acknowledged - kept.due,
        "append": kept.appended - kept.due,
        "poll": polled - kept.appended,
        "wait": begun - polled,
        "core": folded - begun,
        "commit": committed - folded,
        "answer": answered - committed,
    }


def percentile(values: Times, share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    ranked = sorted(values)
    return ranked[max(ceil(share * len(ranked)), 1) - 1]
