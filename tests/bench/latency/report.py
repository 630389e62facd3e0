"""`creditstream bench latency`, and its table: a block for each rate and way, the whole way first, then its stages."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.settings import KafkaSettings
from tests.bench.holds.run import PERCENTILES
from tests.bench.latency.run import TITLES, WAYS, LatencyPlan, MeasuredRate, measure
from tests.bench.report import machine_note
from tests.bench.run import broker, clickhouse, machine
from tests.bench.times import TimesReport, times_row

LatencyReport: TypeAlias = TimesReport[LatencyPlan, MeasuredRate]


def run_latency(plan: LatencyPlan, say: Callable[[str], None]) -> LatencyReport:
    """Measure on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        shape, directory = machine(), Path(name)
        say("starting a broker and ClickHouse")
        with broker(directory) as servers, clickhouse(directory) as tables:
            kafka = KafkaSettings(bootstrap_servers=servers)
            measured = measure(kafka, tables, directory, plan, say)
            return LatencyReport(machine=shape, plan=plan, measured=measured)


def latency_rows(measured: Sequence[MeasuredRate]) -> list[tuple[str, ...]]:
    """The table, under `TIMES_COLUMNS`; values are medians over the runs."""
    return [_row(each, way, stage) for each in measured for way in WAYS for stage in ("whole", *WAYS[way])]


def _row(measured: MeasuredRate, way: str, stage: str) -> tuple[str, ...]:
    whole = f"{measured.rate:,} events/s: {TITLES[way]}"
    title = whole if stage == "whole" else f"  {WAYS[way][stage]}"
    return times_row(title, {named: measured.line(way, stage, named) for named in PERCENTILES})


def latency_footnote(report: LatencyReport) -> str:
    """What stands below the table."""
    plan = report.plan
    return (
        ("" if plan.is_judged else "Too short for goals: it shows that every rate runs.\n")
        + f"Medians of {plan.runs} runs of {plan.seconds:g} s, the first {plan.warm_up_seconds:g} s left out; "
        f"{plan.probes_per_second} events a second are followed one by one, the others are sent beside them; "
        f"{plan.accounts:,} accounts, 4 partitions, one worker, one sink; broker, ClickHouse and load on one machine.\n"
        + machine_note(report.machine)
    )
