"""`creditstream bench`: our worker beside the alternatives, measured. Registered in `pipeline/cli/app.py`."""

import importlib
from enum import StrEnum
from typing import Annotated, Any

import typer

from pipeline.cli.exits import CliError, Exit
from pipeline.cli.output import say, write, write_json, write_table


class Subject(StrEnum):
    """What is measured."""

    SPEED = "speed"
    HOLDS = "holds"
    CORE = "core"


def bench(
    subject: Annotated[
        Subject,
        typer.Argument(
            help="speed: events a second beside others; holds: how long a hold waits; core: its cost beside decoding"
        ),
    ] = Subject.SPEED,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short run: shows that it works, no speeds")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Rounds, each runs everything once")] = 5,
    events: Annotated[int, typer.Option(min=1000, help="Of speed: usage events of one run")] = 200_000,
    accounts: Annotated[int, typer.Option(min=1, help="Of speed: accounts that use them")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout")] = False,
) -> None:
    """Measure the worker on a broker of its own. Takes about a minute a round, holds about three.

    speed: beside a bare loop, plain Faust and the core alone. Every program does the same work, and what they write is
    compared byte for byte. holds: from asking to the answer, at a fixed rate, with the stages of the way. core: the
    rules alone, interpreted and compiled, beside orjson's decode of the same events; no broker.
    """
    harness = _harness()
    if subject is Subject.CORE:
        _bench_core(harness, quick=quick, runs=runs, as_json=as_json)
        return
    if subject is Subject.HOLDS:
        _bench_holds(harness, quick=quick, runs=runs, as_json=as_json)
        return
    plan = harness.QUICK if quick else harness.BenchPlan(runs=runs, events=events, accounts=accounts)
    _bench_speed(harness, plan, as_json=as_json)


def _bench_speed(harness: Any, plan: Any, *, as_json: bool) -> None:  # noqa: ANN401  (see `_harness`)
    try:
        report = harness.run_bench(plan, say)
    except harness.ResultsDifferError as error:
        raise CliError(Exit.FINDINGS, "the programs did not do the same work", why=str(error)) from error
    except harness.ProgramFailedError as error:
        raise CliError(Exit.FAILED, "a program could not be measured", why=str(error)) from error
    if as_json:
        write_json(report.as_json())
        return
    write_table(harness.COLUMNS, harness.rows(report.lines))
    write(harness.footnote(report))


def _bench_holds(harness: Any, *, quick: bool, runs: int, as_json: bool) -> None:  # noqa: ANN401  (see `_harness`)
    report = harness.run_holds(harness.HOLDS_QUICK if quick else harness.HoldsPlan(runs=runs), say)
    if as_json:
        write_json(report.as_json())
        return
    write_table(harness.HOLD_COLUMNS, harness.hold_rows(report.measured))
    write(harness.hold_footnote(report))


def _bench_core(harness: Any, *, quick: bool, runs: int, as_json: bool) -> None:  # noqa: ANN401  (see `_harness`)
    report = harness.measure_core(harness.CORE_QUICK if quick else harness.CorePlan(runs=runs), say)
    if as_json:
        write_json(report.as_json())
        return
    write_table(harness.COLUMNS, harness.rows(report.lines))


def _harness() -> Any:  # noqa: ANN401  (a module that the package must not know)
    """The bench measures programs that are no part of the product, so it lives with the tests."""
    try:
        return importlib.import_module("tests.bench")
    except ModuleNotFoundError as error:
        if error.name not in {"tests", "tests.bench", "psutil"}:
            raise
        raise CliError(
            Exit.FAILED,
            "the bench is not here",
            why=f"it is part of the source tree, not of the installed package ({error})",
            next_step="run it in a clone, with the development dependencies (README.md, tests)",
        ) from error
