"""The bench of holds as a table: a block for each scenario, the round trip first, then where it was spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.holds.run import PERCENTILES, HoldsPlan, Measured
from tests.bench.holds.stages import STAGES
from tests.bench.report import judged, machine_note

HOLD_COLUMNS = ("what (ms)", *PERCENTILES, "p99 of the runs", "p99 goal")


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsReport:
    """The result of one bench of holds."""

    machine: dict[str, Any]
    plan: HoldsPlan
    measured: Sequence[Measured]

    def as_json(self) -> dict[str, Any]:
        lines = [line.as_json() for each in self.measured for line in each.lines()]
        return {
            "machine": self.machine,
            "work": {
                "seconds": self.plan.seconds,
                "runs": self.plan.runs,
                "accounts": self.plan.accounts,
                "is_judged": self.plan.is_judged,
            },
            "lines": lines,
        }


def hold_rows(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The table, under `HOLD_COLUMNS`; values are medians over the runs."""
    return [_row(each, stage) for each in measured for stage in STAGES]


def _row(measured: Measured, stage: str) -> tuple[str, ...]:
    lines = {named: measured.line(stage, named) for named in PERCENTILES}
    p99 = lines["p99"]
    return (
        f"{measured.scenario.title}: {STAGES[stage]}" if stage == "round_trip" else f"  {STAGES[stage]}",
        *(f"{median(line.values):.1f}" for line in lines.values()),
        f"{min(p99.values):.1f} – {max(p99.values):.1f}",
        judged(p99),
    )


def hold_footnote(report: HoldsReport) -> str:
    """What stands below the table."""
    plan = report.plan
    return (
        ("" if plan.is_judged else "Too short for goals: it shows that every scenario runs.\n")
        + f"Medians of {plan.runs} runs of {plan.seconds:g} s, the first {plan.warm_up_seconds:g} s left out; "
        f"holds of one image over {plan.accounts:,} accounts, 4 partitions, one worker; broker, worker and load on "
        "one machine.\n" + machine_note(report.machine)
    )
