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
    QUERIES = "queries"
    LATENCY = "latency"
    GATEWAY = "gateway"
    SINK = "sink"
    SCALING = "scaling"


def bench(
    subject: Annotated[Subject, typer.Argument(help="What is measured, see above")] = Subject.SPEED,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short run: shows that it works, no speeds")
    ] = False,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Rounds, each runs everything once")] = 5,
    events: Annotated[
        int, typer.Option(min=1000, help="Of speed, sink and scaling: usage events of one run")
    ] = 200_000,
    accounts: Annotated[
        int, typer.Option(min=1, help="Of speed, sink and scaling: accounts that use them")
    ] = 10_000,
    rows: Annotated[
        int, typer.Option(min=1000, help="Of queries: metered records that stand in ClickHouse")
    ] = 10_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout")] = False,
) -> None:
    """Measure on servers of its own. How long each takes: tests/bench/README.md.

    speed: the worker beside a bare loop, plain Faust and the core alone. Every program does the same work, and what
    they write is compared byte for byte. holds: from asking to the answer, at a fixed rate, with the stages of the way.
    core: the rules alone, interpreted and compiled, beside orjson's decode of the same events; no broker. queries: of
    the account pages and of Grafana's boards, each beside a naive way to the same rows. latency: from sending usage to
    the balance and to the row in ClickHouse, with the stages. gateway: holds and events over HTTP, alone and beside
    usage. sink: what the sink takes beside what the worker says. scaling: the worker with more accounts, with longer
    histories, with another worker.
    """
    harness = _harness()
    options = harness.Options(quick=quick, runs=runs, events=events, accounts=accounts, rows=rows)
    try:
        told = harness.run_subject(subject.value, options, say)
    except harness.ResultsDifferError as error:
        raise CliError(Exit.FINDINGS, "the programs did not do the same work", why=str(error)) from error
    except harness.ProgramFailedError as error:
        raise CliError(Exit.FAILED, "a program could not be measured", why=str(error)) from error
    if as_json:
        write_json(told.report.as_json())
        return
    write_table(told.columns, told.rows)
    write(told.footnote)


def _harness() -> Any:  # noqa: ANN401  (a module that the package must not know)
    """The bench measures programs that are no part of the product, so it lives with the tests."""
    try:
        return importlib.import_module("tests.bench.subjects")
    except ModuleNotFoundError as error:
        if error.name not in {"tests", "tests.bench", "psutil"}:
            raise
        raise CliError(
            Exit.FAILED,
            "the bench is not here",
            why=f"it is part of the source tree, not of the installed package ({error})",
            next_step="run it in a clone, with the development dependencies (README.md, tests)",
        ) from error
