"""Runs a whole bench: a broker of its own, the input, then the programs in turns, so that all meet the same noise.

A round runs every program once. Ratios are taken within a round, and every second round goes in the other order: what
slows the machine down for a minute slows both sides of a ratio.
"""

import os
import platform
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.compiled import runs_compiled
from pipeline.settings import ClickHouseSettings
from tests.bench.programs import (
    BARE_LOOP,
    CORE_ALONE,
    KAFKA_STREAMS,
    PLAIN_FAUST,
    PROGRAMS,
    QUIX,
    WORKER,
    Program,
    Run,
)
from tests.bench.report import Line, Report
from tests.bench.workload import Workload, publish
from tests.stack import clickhouse_server, kafka_server

WORKER_TO_BARE_LOOP: Final = 0.9
WORKER_TO_PLAIN_FAUST: Final = 15.0
WORKER_TO_QUIX: Final = 2.5
WORKER_TO_KAFKA_STREAMS: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """How much is measured. The slow programs get an input of their own."""

    runs: int = 5
    events: int = 200_000
    slow_events: int = 12_000
    accounts: int = 10_000
    is_judged: bool = True
    """Whether the runs are long enough for goals; the broker then gets warm first, by a run that is not measured."""


QUICK: Final = BenchPlan(runs=1, events=4000, slow_events=300, accounts=40, is_judged=False)
"""Shows that every program runs and that all agree; its speeds say nothing."""


class ResultsDifferError(Exception):
    """A program wrote something else than the core says: its speed means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    workload: Workload
    folding: dict[str, Any]
    """The core's own word on it."""


def run_bench(plan: BenchPlan, say: Callable[[str], None]) -> Report:
    """Measure on a broker of its own. Raises ResultsDifferError, ProgramFailedError."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        say("starting a broker")
        with broker(Path(name)) as servers:
            return measure(servers, Path(name), plan, say)


def measure(servers: str, directory: Path, plan: BenchPlan, say: Callable[[str], None]) -> Report:
    """Publish the inputs, then run the programs in turns and compare what they wrote."""
    shape = machine()
    say(f"publishing {plan.events:,} events, and {plan.slow_events:,} for the slow programs")
    inputs = {
        False: _input(servers, directory, "many", plan.events, plan.accounts),
        True: _input(servers, directory, "few", plan.slow_events, plan.accounts),
    }
    if plan.is_judged:
        _run(BARE_LOOP, inputs[False], 0)
    rounds = [_round(number, inputs, say) for number in range(1, plan.runs + 1)]
    work = {
        "accounts": plan.accounts,
        "runs": plan.runs,
        "is_judged": plan.is_judged,
        "events": plan.events,
        "events_of_slow_programs": plan.slow_events,
        **{name: inputs[False].folding[name] for name in ("outcomes", "credits", "results")},
    }
    return Report(machine=shape, work=work, lines=_lines(rounds, is_judged=plan.is_judged))


@contextmanager
def broker(directory: Path) -> Generator[str, None, None]:
    """A broker of the bench's own."""
    home = directory / "kafka"
    home.mkdir()
    with (home / "owner.lock").open("w") as lock, kafka_server(home, lock) as values:
        yield str(values["bootstrap_servers"])


@contextmanager
def clickhouse(directory: Path) -> Generator[ClickHouseSettings, None, None]:
    """A ClickHouse of the bench's own, and a database in it that is not there yet."""
    home = directory / "clickhouse"
    home.mkdir()
    with (home / "owner.lock").open("w") as lock, clickhouse_server(home, lock) as values:
        yield ClickHouseSettings(**values, database="test_bench")


def _input(servers: str, directory: Path, name: str, events: int, accounts: int) -> _Input:
    workload = publish(servers, directory, name=name, events=events, accounts=min(accounts, events))
    return _Input(workload=workload, folding=CORE_ALONE.fold(workload, "judge"))


def _round(number: int, inputs: Mapping[bool, _Input], say: Callable[[str], None]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for program in PROGRAMS if number % 2 else reversed(PROGRAMS):
        runs[program.name] = run = _run(program, inputs[program.is_slow], number)
        say(f"round {number}: {program.name} {run.speed.events_per_second:,.0f} events/s")
    return runs


def _run(program: Program, given: _Input, number: int) -> Run:
    run = program.run(given.workload, number)
    expected = program.expected(given.folding)
    if run.results != expected:
        raise ResultsDifferError(f"{program.name}: expected {expected}, got {run.results}")
    return run


def _lines(rounds: list[dict[str, Run]], *, is_judged: bool) -> list[Line]:
    """Of runs that are too short only how many events a second: a ratio of two of them would mislead."""
    speeds = [
        Line(
            name=program.name,
            title=program.title,
            unit="events/s",
            values=tuple(each[program.name].speed.events_per_second for each in rounds),
        )
        for program in PROGRAMS
    ]
    if not is_judged:
        return speeds
    costs = [
        Line(
            name=f"{program.name}-cpu",
            title=f"processor time of {program.name}",
            unit="µs/event",
            values=tuple(each[program.name].speed.cpu_us_per_event for each in rounds),
        )
        for program in PROGRAMS
    ]
    return [
        *speeds,
        _ratio(rounds, BARE_LOOP, WORKER_TO_BARE_LOOP),
        *([_ratio(rounds, QUIX, WORKER_TO_QUIX)] if QUIX in PROGRAMS else []),
        *([_ratio(rounds, KAFKA_STREAMS, WORKER_TO_KAFKA_STREAMS)] if KAFKA_STREAMS in PROGRAMS else []),
        _ratio(rounds, PLAIN_FAUST, WORKER_TO_PLAIN_FAUST),
        *costs,
    ]


def _ratio(rounds: list[dict[str, Run]], other: Program, goal: float) -> Line:
    return Line(
        name=f"{WORKER.name}-to-{other.name}",
        title=f"{WORKER.name} to {other.name}",
        unit="×",
        values=tuple(
            each[WORKER.name].speed.events_per_second / each[other.name].speed.events_per_second
            for each in rounds
        ),
        goal=goal,
    )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "core": "compiled" if runs_compiled() else "interpreted",
        "load_before": round(os.getloadavg()[0], 2),
    }
