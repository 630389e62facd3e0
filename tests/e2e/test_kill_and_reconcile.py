"""Real workers and sinks are killed and stopped while usage flows, and not a credit is off."""

from pathlib import Path

import pytest

from tests.e2e.fault_run import FaultPlan, fault_run


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_kills_and_pauses_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    plan = FaultPlan(
        events=10_000, accounts=200, seed=3, kills=2, seconds=15, pause_seconds=8, partitions=4, dry_share=0.2,
        hold_share=0.03, change_share=0.01,
    )  # fmt: skip
    lines: list[str] = []

    summary = fault_run(plan, tmp_path, lines.append)

    assert summary["reconcile"]["first"] == [], lines
    assert summary["audit"]["first"] == []
    assert summary["equal"]
    kinds = [fault["kind"] for fault in summary["faults"]]
    assert (kinds.count("kill"), kinds.count("stop"), kinds.count("continue")) == (10, 2, 2)
    answers = {"metered", "denied", "duplicate", "dead_letter", "accepted", "refused", "tick"}
    assert answers == summary["outcomes"].keys()
    assert summary["statements"] > 0
