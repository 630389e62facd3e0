"""What `creditstream bench` can measure, each behind one function: options in, a table or JSON out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tests.bench.core_cost import CORE_QUICK, CorePlan, measure_core
from tests.bench.gateway import (
    GATEWAY_QUICK,
    GatewayPlan,
    gateway_footnote,
    gateway_rows,
    run_gateway,
)
from tests.bench.holds.report import hold_footnote, hold_rows
from tests.bench.holds.run import HOLDS_QUICK, HoldsPlan
from tests.bench.holds.start import run_holds
from tests.bench.latency.report import latency_footnote, latency_rows, run_latency
from tests.bench.latency.run import LATENCY_QUICK, LatencyPlan
from tests.bench.measure import ProgramFailedError
from tests.bench.queries.report import QUERY_COLUMNS, query_footnote, query_rows
from tests.bench.queries.run import QUERIES_QUICK, QueriesPlan, run_queries
from tests.bench.report import COLUMNS, Report, footnote, machine_note, rows
from tests.bench.run import QUICK, BenchPlan, ResultsDifferError, run_bench
from tests.bench.scaling import SCALING_QUICK, ScalingPlan, run_scaling
from tests.bench.sink_speed import SINK_QUICK, SinkPlan, run_sink
from tests.bench.times import TIMES_COLUMNS

__all__ = ["Options", "ProgramFailedError", "ResultsDifferError", "Told", "run_subject"]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of the command line. `quick`: the others are as they are."""

    quick: bool
    runs: int
    events: int
    accounts: int
    rows: int


class _WithJson(Protocol):
    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A result, as it is shown."""

    report: _WithJson
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    footnote: str


def run_subject(name: str, options: Options, say: Say) -> Told:
    """Measure on servers of the bench's own. Raises ResultsDifferError, ProgramFailedError."""
    return _SUBJECTS[name](options, say)


def _speed(options: Options, say: Say) -> Told:
    plan = BenchPlan(runs=options.runs, events=options.events, accounts=options.accounts)
    report = run_bench(QUICK if options.quick else plan, say)
    return Told(report=report, columns=COLUMNS, rows=rows(report.lines), footnote=footnote(report))


def _holds(options: Options, say: Say) -> Told:
    report = run_holds(HOLDS_QUICK if options.quick else HoldsPlan(runs=options.runs), say)
    return Told(
        report=report,
        columns=TIMES_COLUMNS,
        rows=hold_rows(report.measured),
        footnote=hold_footnote(report),
    )


def _core(options: Options, say: Say) -> Told:
    return _lines(measure_core(CORE_QUICK if options.quick else CorePlan(runs=options.runs), say))


def _queries(options: Options, say: Say) -> Told:
    plan = QueriesPlan(runs=options.runs, records=options.rows)
    report = run_queries(QUERIES_QUICK if options.quick else plan, say)
    return Told(
        report=report,
        columns=QUERY_COLUMNS,
        rows=query_rows(report.asked),
        footnote=query_footnote(report),
    )


def _latency(options: Options, say: Say) -> Told:
    report = run_latency(LATENCY_QUICK if options.quick else LatencyPlan(runs=options.runs), say)
    return Told(
        report=report,
        columns=TIMES_COLUMNS,
        rows=latency_rows(report.measured),
        footnote=latency_footnote(report),
    )


def _gateway(options: Options, say: Say) -> Told:
    report = run_gateway(GATEWAY_QUICK if options.quick else GatewayPlan(runs=options.runs), say)
    return Told(
        report=report,
        columns=TIMES_COLUMNS,
        rows=gateway_rows(report.measured),
        footnote=gateway_footnote(report),
    )


def _sink(options: Options, say: Say) -> Told:
    plan = SinkPlan(runs=options.runs, events=options.events, accounts=options.accounts)
    return _lines(run_sink(SINK_QUICK if options.quick else plan, say))


def _scaling(options: Options, say: Say) -> Told:
    plan = ScalingPlan(runs=options.runs, events=options.events, accounts=options.accounts)
    return _lines(run_scaling(SCALING_QUICK if options.quick else plan, say))


def _lines(report: Report) -> Told:
    return Told(
        report=report, columns=COLUMNS, rows=rows(report.lines), footnote=machine_note(report.machine)
    )


_SUBJECTS: Final[Mapping[str, Callable[[Options, Say], Told]]] = {
    "speed": _speed,
    "holds": _holds,
    "core": _core,
    "queries": _queries,
    "latency": _latency,
    "gateway": _gateway,
    "sink": _sink,
    "scaling": _scaling,
}
