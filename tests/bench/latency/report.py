"""`creditstream bench latency`, and its table: a block for each rate and way, the whole way first, then its stages."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pipeline.settings import ClickHouseSettings, KafkaSettings
from tests.bench.holds.run import PERCENTILES
from tests.bench.latency.run import TITLES, WAYS, LatencyPlan, MeasuredRate, measure
from tests.bench.report import judged, machine_note
from tests.bench.run import broker, machine
from tests.stack import clickhouse_server

LATENCY_COLUMNS = ("what (ms)", *PERCENTILES, "p99 of the runs", "p99 goal")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """The result of one bench of latency."""

    machine: dict[str, Any]
    plan: LatencyPlan
    measured: Sequence[MeasuredRate]

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


def run_latency(plan: LatencyPlan, say: Callable[[str], None]) -> LatencyReport:
    """Measure on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        shape, home = machine(), Path(name) / "clickhouse"
        home.mkdir()
        say("starting a broker and ClickHouse")
        with (
            broker(Path(name)) as servers,
            (home / "owner.lock").open("w") as lock,
            clickhouse_server(home, lock) as values,
        ):
            clickhouse = ClickHouseSettings(**values, database="test_bench")
            kafka = KafkaSettings(bootstrap_servers=servers)
            return LatencyReport(
                machine=shape, plan=plan, measured=measure(kafka, clickhouse, Path(name), plan, say)
            )


def latency_rows(measured: Sequence[MeasuredRate]) -> list[tuple[str, ...]]:
    """The table, under `LATENCY_COLUMNS`; values are medians over the runs."""
    return [_row(each, way, stage) for each in measured for way in WAYS for stage in ("whole", *WAYS[way])]


def _row(measured: MeasuredRate, way: str, stage: str) -> tuple[str, ...]:
    lines = {named: measured.line(way, stage, named) for named in PERCENTILES}
    p99 = lines["p99"]
    whole = f"{measured.rate:,} events/s: {TITLES[way]}"
    return (
        whole if stage == "whole" else f"  {WAYS[way][stage]}",
        *(f"{median(line.values):.1f}" for line in lines.values()),
        f"{min(p99.values):.1f} – {max(p99.values):.1f}",
        judged(p99),
    )


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
