"""What a bench has to say: lines with a median and a spread, whatever they measure, as a table or as JSON."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure, with the value of every run."""

    name: str
    title: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    """At least this much; None: it is shown for comparison."""
    limit: float | None = None
    """At most this much."""

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def is_met(self) -> bool:
        is_enough = self.goal is None or self.median >= self.goal
        return is_enough and (self.limit is None or self.median <= self.limit)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "is_met": self.is_met}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one bench."""

    machine: dict[str, Any]
    work: dict[str, Any]
    """What every program had to do, and the results in which they agreed."""
    lines: Sequence[Line]

    def as_json(self) -> dict[str, Any]:
        lines = [line.as_json() for line in self.lines]
        return {"machine": self.machine, "work": self.work, "lines": lines}


COLUMNS = ("what", "unit", "median", "lowest", "highest", "goal")


def rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """The table, under `COLUMNS`."""
    return [
        (
            line.title,
            line.unit,
            shown(line.median),
            shown(min(line.values)),
            shown(max(line.values)),
            judged(line),
        )
        for line in lines
    ]


def judged(line: Line) -> str:
    """The goal, and whether the median meets it."""
    wanted = [f"at least {line.goal:g}"] if line.goal is not None else []
    wanted += [f"at most {line.limit:g}"] if line.limit is not None else []
    return "".join(f"{each}: {'met' if line.is_met else 'MISSED'}" for each in wanted)


def footnote(report: Report) -> str:
    """What stands below the table: the work, and the machine."""
    work = report.work
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in work["outcomes"].items())
    return (
        ("" if work["is_judged"] else "Too short for speeds: it shows that every program runs.\n")
        + f"{work['events']:,} events of {work['accounts']:,} accounts ({outcomes}), {work['credits']} credits, "
        f"4 partitions, {work['runs']} rounds; slow programs got {work['events_of_slow_programs']:,} events. "
        "All round this core wrote the same outcomes, entries and account rows; all charged the same.\n"
        + machine_note(report.machine)
    )


def machine_note(machine: Mapping[str, Any]) -> str:
    """On what it was measured, and how busy that was."""
    return (
        f"{machine['cores']} cores ({machine['machine']}, {machine['system']}), Python {machine['python']}, "
        f"the core {machine['core']}; "
        f"load before: {machine['load_before']}, at the end: {os.getloadavg()[0]:.2f}."
    )


def shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
