"""The bench itself: that it compares what was written, and measures from the warm-up to the end."""

from pathlib import Path

import pytest

from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from schemas.topics import ACCOUNT_BALANCES, LEDGER_ENTRIES, METERED_RECORDS
from tests.bench.core_cost import CORE_QUICK, measure_core
from tests.bench.gateway import CALLS, GATEWAY_QUICK
from tests.bench.gateway import measure as measure_gateway
from tests.bench.holds.asking import Asked, Kept
from tests.bench.holds.report import HoldsReport, hold_rows
from tests.bench.holds.run import HOLDS_QUICK, PERCENTILES, SCENARIOS, Measured
from tests.bench.holds.run import measure as measure_holds
from tests.bench.holds.stages import STAGES, percentile, stages
from tests.bench.latency.report import latency_rows
from tests.bench.latency.run import LATENCY_QUICK, WAYS
from tests.bench.latency.run import measure as measure_latency
from tests.bench.measure import Look, speed_of
from tests.bench.programs import PROGRAMS
from tests.bench.queries.report import query_rows
from tests.bench.queries.run import QUERIES_QUICK
from tests.bench.queries.run import measure as measure_queries
from tests.bench.report import Line, rows
from tests.bench.results import Sums
from tests.bench.run import QUICK, measure
from tests.bench.scaling import SCALING_QUICK
from tests.bench.scaling import measure as measure_scaling
from tests.bench.sink_speed import SINK_QUICK
from tests.bench.sink_speed import measure as measure_sink


@pytest.mark.integration
def test_every_program_runs_and_all_write_the_same(kafka: KafkaSettings, tmp_path: Path) -> None:
    report = measure(kafka.bootstrap_servers, tmp_path, QUICK, print)
    assert [line.name for line in report.lines] == [program.name for program in PROGRAMS]
    assert all(len(line.values) == QUICK.runs and line.median > 0 for line in report.lines)
    assert report.work["outcomes"]["metered"] > 0.9 * QUICK.events


def test_the_cost_of_the_core_is_measured_beside_decoding() -> None:
    report = measure_core(CORE_QUICK, print)
    assert [line.name for line in report.lines] == ["interpreted"]
    assert report.lines[0].median > 0


def test_a_single_other_byte_in_what_was_written_shows() -> None:
    assert sums((METERED_RECORDS, b"a", b"8", 1)) != sums((METERED_RECORDS, b"a", b"9", 1))
    assert sums((METERED_RECORDS, b"a", b"8", 1)) != sums((METERED_RECORDS, b"b", b"8", 1))
    assert sums((METERED_RECORDS, b"a", b"8", 1)) != sums((METERED_RECORDS, b"a", b"8", 2))
    assert sums((METERED_RECORDS, b"a", b"8", 1)) != sums((LEDGER_ENTRIES, b"a", b"8", 1))


def test_a_record_written_twice_shows() -> None:
    assert sums((METERED_RECORDS, b"a", b"8", 1)) != sums(*[(METERED_RECORDS, b"a", b"8", 1)] * 2)


def test_another_row_of_an_account_shows() -> None:
    one, other = Sums(), Sums()
    one.add_rows([(b"a", b"row")])
    other.add_rows([(b"a", b"wor")])
    assert one.results() != other.results()


def test_how_batches_were_cut_makes_no_difference() -> None:
    balance = (ACCOUNT_BALANCES, b"a", b"once a batch", 1)
    first, second = (METERED_RECORDS, b"a", b"8", 1), (METERED_RECORDS, b"b", b"2", 1)
    assert sums(first, balance, second, balance) == sums(second, first, balance)


def sums(*records: tuple[str, bytes, bytes, int]) -> object:
    made = Sums()
    for topic, key, value, timestamp_ms in records:
        made.add(topic, key, value, timestamp_ms)
    return made.results()


def test_the_speed_counts_from_the_end_of_the_warm_up_to_the_last_outcome() -> None:
    looks = [
        Look(1.0, 0, 0.5),
        Look(2.0, 100, 1.0),
        Look(3.0, 600, 1.5),
        Look(4.0, 1100, 2.0),
        Look(5.0, 1100, 2.5),
    ]
    speed = speed_of(looks, records=1000, warm_up=90)
    assert speed.seconds == 2.0
    assert speed.events == pytest.approx(1000 * 1000 / 1100, abs=1)
    assert speed.cpu_seconds == 1.0


def test_a_goal_is_met_by_the_median() -> None:
    assert Line(name="r", title="r", unit="×", values=(0.1, 0.8, 0.9), goal=0.8).is_met
    missed = Line(name="r", title="r", unit="×", values=(0.1, 0.79, 0.9), goal=0.8)
    assert rows([missed]) == [("r", "×", "0.79", "0.1", "0.9", "at least 0.8: MISSED")]


@pytest.mark.integration
def test_holds_are_asked_for_and_each_is_taken_apart(kafka: KafkaSettings, tmp_path: Path) -> None:
    measured = measure_holds(kafka.bootstrap_servers, tmp_path, HOLDS_QUICK, print)
    assert [each.scenario for each in measured] == list(HOLDS_QUICK.scenarios)
    assert len(hold_rows(measured)) == len(HOLDS_QUICK.scenarios) * len(STAGES)
    for run in (run for each in measured for run in each.runs):
        parts = zip(
            *(run[stage] for stage in STAGES if stage not in {"round_trip", "acknowledged"}), strict=True
        )
        assert [sum(each) for each in parts] == pytest.approx(run["round_trip"])


def test_a_report_of_waiting_says_what_was_measured() -> None:
    measured = Measured(scenario=SCENARIOS[0], runs=[dict.fromkeys(STAGES, (1.0,))], is_judged=True)
    report = HoldsReport(machine={}, plan=HOLDS_QUICK, measured=[measured])
    assert len(report.as_json()["lines"]) == len(STAGES) * len(PERCENTILES)


def test_a_hold_belongs_to_the_poll_and_the_batch_that_took_its_offset() -> None:
    asked = Asked(
        kept={(0, 4): Kept(due=9.0, appended=9.5, acknowledged=9.75), (0, 7): Kept(10.0, 10.25, 10.5)},
        answered={(0, 4): 13.0, (0, 7): 15.0},
    )
    steps = [
        "10.0 polled 0 5", "10.5 begun 0 3", "10.5 polled 0 8", "11.0 folded 0 5", "12.0 committed 0 5",
        "12.5 begun 0 7", "13.0 folded 0 8", "14.0 committed 0 8", "9.0 polled 1 9",
    ]  # fmt: skip
    taken = stages(asked, steps, skip_seconds=0)
    assert taken == {
        "round_trip": [4000, 5000],
        "acknowledged": [750, 500],
        "append": [500, 250],
        "poll": [500, 250],
        "wait": [500, 2000],
        "core": [500, 500],
        "commit": [1000, 1000],
        "answer": [1000, 1000],
    }
    assert stages(asked, steps, skip_seconds=1)["round_trip"] == [5000], "the warm-up is left out"


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([3.0], 0.99) == 3


def test_a_limit_is_kept_by_the_median() -> None:
    assert Line(name="l", title="l", unit="ms", values=(10, 50, 900), limit=50).is_met
    missed = Line(name="l", title="l", unit="ms", values=(10, 51, 51), limit=50)
    assert rows([missed]) == [("l", "ms", "51", "10", "51", "at most 50: MISSED")]


@pytest.mark.integration
def test_every_question_is_answered_and_its_naive_way_agrees(settings: Settings) -> None:
    report = measure_queries(settings, QUERIES_QUICK, print)
    assert {each.question.group for each in report.asked} == {"account", "board", "fleet"}
    assert len(query_rows(report.asked)) == len(report.asked) > 20
    rows = {each["table"]: each["row_count"] for each in report.tables}
    assert rows["metered_records"] == QUERIES_QUICK.records
    assert rows["ledger_entries"] > 0.9 * QUERIES_QUICK.records


@pytest.mark.integration
def test_every_probe_is_followed_to_its_balance_and_its_row(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path: Path
) -> None:
    own = clickhouse.model_copy(update={"database": "test_latency"})
    [measured] = measure_latency(kafka, own, tmp_path, LATENCY_QUICK, print)
    assert len(latency_rows([measured])) == sum(len(stages) + 1 for stages in WAYS.values())
    [run] = measured.runs
    for way, times in run.items():
        parts = zip(*(times[stage] for stage in WAYS[way] if stage != "acknowledged"), strict=True)
        assert [sum(each) for each in parts] == pytest.approx(times["whole"]), way


@pytest.mark.integration
def test_every_request_of_every_load_is_answered(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path: Path
) -> None:
    own = clickhouse.model_copy(update={"database": "test_gateway"})
    measured = measure_gateway(kafka, own, tmp_path, GATEWAY_QUICK, print)
    assert [each.name for each in measured] == list(GATEWAY_QUICK.beside)
    asked = GATEWAY_QUICK.seconds - GATEWAY_QUICK.warm_up_seconds
    for run in (run for each in measured for run in each.runs):
        assert {call: len(taken) for call, taken in run.items()} == pytest.approx(
            {call: CALLS[call].per_second * asked for call in CALLS}, abs=1
        )


@pytest.mark.integration
def test_the_sink_stores_all_that_the_worker_said(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path: Path
) -> None:
    own = clickhouse.model_copy(update={"database": "test_sink_speed"})
    report = measure_sink(kafka.bootstrap_servers, own, tmp_path, SINK_QUICK, print)
    assert [line.name for line in report.lines] == ["worker", "sink", "together", "behind"]
    assert all(line.median > 0 for line in report.lines[:3])


@pytest.mark.integration
def test_two_workers_are_measured_as_one(kafka: KafkaSettings, tmp_path: Path) -> None:
    report = measure_scaling(kafka.bootstrap_servers, tmp_path, SCALING_QUICK, print)
    assert [line.name for line in report.lines] == ["two"]
    assert report.lines[0].median > 0


def test_the_speed_of_a_part_ends_where_the_part_ends() -> None:
    looks = [Look(1.0, 0, 0.0), Look(2.0, 100, 0.0), Look(3.0, 300, 0.0), Look(7.0, 1000, 0.0)]
    assert speed_of(looks, records=1000, warm_up=100, until=300).events_per_second == 200
    assert speed_of(looks, records=1000, warm_up=300).events_per_second == 175
