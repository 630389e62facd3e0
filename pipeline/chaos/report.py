"""What a run of chaos ends with."""

import time
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol

from pipeline.chaos.plan import ChaosPlan

LISTED_MAX: Final = 50
"""Differences that are spelled out; all are counted."""


class Audited(Protocol):
    """What an auditor of the raw log has found."""

    outcomes: Counter[str]
    charged: Decimal
    statements: int
    differences: list[str]
    differences_total: int


@dataclass(slots=True, kw_only=True)
class ChaosReport:
    """What a run ends with."""

    plan: ChaosPlan
    stage: str = "faults"
    """What a run that was interrupted was at; `finished` for one that was not."""
    struck: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    by_phase: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Faults that counted: phase → kind → how many; `anywhere` are those that only made partitions move."""
    zombies: int = 0
    """Paused processes that woke up after their partition had gone on elsewhere."""
    published: int = 0
    resent: int = 0
    """After the producer's own timeout."""
    arrived_twice: int = 0
    """Of those that were sent again, both of which are in the log."""
    compared: int = 0
    """Offsets of the input log that the running reconciler had compared at the end, over all partitions."""
    records: int = 0
    accounts: int = 0
    statements: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])
    credits_charged: Decimal = Decimal(0)
    restarts: dict[str, int] = field(default_factory=dict[str, int])
    recovery: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Kind → `count`, `p50`, `p99`, `max`: seconds from the strike until the struck partitions went on."""
    standstill: dict[str, float] = field(default_factory=dict[str, float])
    """Program → the longest time in seconds in which a partition did not go on."""
    memory_max_bytes: dict[str, int] = field(default_factory=dict[str, int])
    """Program → the most that one process of it was seen to take: resident, looked at once a second."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    differences: list[str] = field(default_factory=list[str])
    differences_total: int = 0

    @property
    def equal(self) -> bool:
        """Whether the run was finished, nothing differs, and nothing that was planned is left undone."""
        return self.stage == "finished" and self.differences_total == 0

    def differ(self, what: str, count: int = 1) -> None:
        """Count so many differences, and spell this one out."""
        self.differences_total += count
        if len(self.differences) < LISTED_MAX:
            self.differences.append(what)

    @contextmanager
    def timed(self, name: str) -> Generator[None, None, None]:
        """Note how long a part of the run took."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


def quantiles(times: list[float]) -> dict[str, float]:
    """`count`, and p50, p99 and max to the hundredth; only the count where there is none."""
    ordered = sorted(times)
    if not ordered:
        return {"count": 0}
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {"count": len(ordered), **{name: round(ordered[place], 2) for name, place in places.items()}}
