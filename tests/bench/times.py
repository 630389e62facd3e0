"""Results in milliseconds, by percentiles: of a whole way first, then of its stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, Protocol, TypeVar

from tests.bench.holds.run import PERCENTILES
from tests.bench.report import Line, judged

TIMES_COLUMNS = ("what (ms)", *PERCENTILES, "p99 of the runs", "p99 goal")


class TimesPlan(Protocol):
    """How much is measured."""

    @property
    def seconds(self) -> float: ...
    @property
    def runs(self) -> int: ...
    @property
    def accounts(self) -> int: ...
    @property
    def is_judged(self) -> bool: ...


class WithLines(Protocol):
    """What was measured in one scenario."""

    def lines(self) -> Sequence[Line]: ...


Plan = TypeVar("Plan", bound=TimesPlan)
Measured = TypeVar("Measured", bound=WithLines)


@dataclass(frozen=True, kw_only=True)  # Python 3.11 cannot make a generic one that has slots and is frozen.
class TimesReport(Generic[Plan, Measured]):
    """The result of one bench of waiting."""

    machine: dict[str, Any]
    plan: Plan
    measured: Sequence[Measured]

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "work": {
                "seconds": self.plan.seconds,
                "runs": self.plan.runs,
                "accounts": self.plan.accounts,
                "is_judged": self.plan.is_judged,
            },
            "lines": [line.as_json() for each in self.measured for line in each.lines()],
        }


def times_row(title: str, lines: Mapping[str, Line]) -> tuple[str, ...]:
    """Under `TIMES_COLUMNS`; values are medians over the runs. `lines`: by `PERCENTILES`."""
    p99 = lines["p99"]
    return (
        title,
        *(f"{median(line.values):.1f}" for line in lines.values()),
        f"{min(p99.values):.1f} – {max(p99.values):.1f}",
        judged(p99),
    )
