"""The bench of holds as a table: a block for each scenario, the round trip first, then where it was spent."""

from collections.abc import Sequence
from typing import TypeAlias

from tests.bench.holds.run import PERCENTILES, HoldsPlan, Measured
from tests.bench.holds.stages import STAGES
from tests.bench.report import machine_note
from tests.bench.times import TimesReport, times_row

HoldsReport: TypeAlias = TimesReport[HoldsPlan, Measured]


def hold_rows(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The table, under `TIMES_COLUMNS`; values are medians over the runs."""
    return [_row(each, stage) for each in measured for stage in STAGES]


def _row(measured: Measured, stage: str) -> tuple[str, ...]:
    title = f"{measured.scenario.title}: {STAGES[stage]}" if stage == "round_trip" else f"  {STAGES[stage]}"
    return times_row(title, {named: measured.line(stage, named) for named in PERCENTILES})


def hold_footnote(report: HoldsReport) -> str:
    """What stands below the table."""
    plan = report.plan
    return (
        ("" if plan.is_judged else "Too short for goals: it shows that every scenario runs.\n")
        + f"Medians of {plan.runs} runs of {plan.seconds:g} s, longer if it takes longer until all periods have ended, "
        f"the first {plan.warm_up_seconds:g} s left out; "
        f"holds of one image over {plan.accounts:,} accounts, 4 partitions, one worker; broker, worker and load on "
        "one machine.\n" + machine_note(report.machine)
    )
