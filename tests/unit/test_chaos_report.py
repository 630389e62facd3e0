"""What a chaos run counts as a difference, beside what reconcile and the auditor find."""

from pathlib import Path

from pipeline.chaos import ChaosPlan, ChaosReport
from pipeline.chaos.report import LISTED_MAX, quantiles
from pipeline.chaos.watch import refusals

NOTICED = """12:00:00 CRITICAL pipeline.stream.ending: worker ends with code 4: partition 1: expected rows with digest
AssertionError: (0, 451)
pipeline.sink.opening.SinkRefusedError: the sink has stored
"""
USUAL = """12:00:00 INFO pipeline.stream.ending: worker ends with code 0: stopped as asked
12:00:00 CRITICAL pipeline.stream.ending: worker ends with code 70: a batch failed: KafkaError{FATAL,code=_FENCED}
pipeline.sink.insert.InsertFailedError: ClickHouse did not take the block
"""


def report(stage: str = "faults") -> ChaosReport:
    return ChaosReport(plan=ChaosPlan(events=1, faults=1, seed=1), stage=stage)


def test_a_program_that_noticed_something_wrong_is_a_difference_and_one_that_was_fenced_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "worker-1.log").write_text(USUAL + NOTICED)

    found = refusals(tmp_path)

    assert len(found) == 3
    assert all(line.startswith("worker-1.log: ") for line in found)


def test_a_run_that_was_interrupted_is_not_equal() -> None:
    found = report()
    assert not found.equal

    found.differ("something")
    found.stage = "finished"
    assert (found.equal, report(stage="finished").equal) == (False, True)


def test_differences_are_listed_up_to_a_bound_and_all_counted() -> None:
    found = report()
    for _ in range(LISTED_MAX + 5):
        found.differ("something", 2)

    assert (len(found.differences), found.differences_total) == (LISTED_MAX, 2 * (LISTED_MAX + 5))


def test_recovery_is_said_by_its_middle_its_tail_and_its_worst() -> None:
    assert quantiles([float(each) for each in range(1, 201)]) == {
        "count": 200,
        "p50": 101.0,
        "p99": 199.0,
        "max": 200.0,
    }
    assert quantiles([]) == {"count": 0}
