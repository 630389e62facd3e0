"""Every program is struck in every one of its phases while usage flows, and not a record or a credit is off."""

import time
from pathlib import Path

import pytest

from pipeline.chaos import ChaosPlan, run_chaos
from pipeline.chaos.plan import Kind
from pipeline.cli.chaos import _as_json
from pipeline.cli.output import write_json
from pipeline.crash_points import Phase
from tests.e2e.audit import audit_log

SHORT = (
    Kind.KILL, Kind.TERM, Kind.PAUSE, Kind.REBALANCE, Kind.KAFKA_KILL, Kind.CLICKHOUSE_KILL,
    Kind.DISK_FULL, Kind.DISK_READ_ONLY,
)  # fmt: skip
"""What is over soon: removals and outages need their time."""


@pytest.mark.e2e
@pytest.mark.timeout(480)
def test_a_strike_in_every_phase_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    plan = ChaosPlan(events=8000, faults=len(Phase), accounts=200, seed=4, kinds=SHORT, hour_seconds=5)
    lines: list[str] = []
    kept: list[str] = []

    report = run_chaos(
        plan, tmp_path, base_ms=int(time.time() * 1000), audit=audit_log, say=lines.append,
        keep=lambda so_far: kept.append(so_far.stage),
    )  # fmt: skip

    assert report.differences == [], lines
    assert report.equal
    assert all(sum(report.by_phase[phase].values()) >= 1 for phase in Phase)
    answers = {"metered", "denied", "duplicate", "dead_letter", "accepted", "refused", "tick"}
    assert answers <= report.outcomes.keys()
    assert report.statements > 0
    assert report.compared > 0
    assert {
        "worker",
        "sink",
        "payments",
        "late-lane",
        "reconciler",
        "kafka",
        "clickhouse",
    } <= report.memory_max_bytes.keys()
    assert kept[0] == "faults"
    assert kept[-1] == "finished"
    write_json(_as_json(report))  # As the command does.
