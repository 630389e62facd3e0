"""`creditstream chaos`: faults from a seed under a load from a seed, then every record and balance accounted for."""

import importlib
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.chaos import ChaosPlan, ChaosReport


def chaos(
    *,
    events: Annotated[int, typer.Option(min=1000, help="Usage events, spread over the faults")] = 100_000,
    faults: Annotated[int, typer.Option(min=1, help="Faults in all")] = 48,
    each: Annotated[int, typer.Option(min=0, help="At least so many faults in each phase")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=8)] = 2,
    sinks: Annotated[int, typer.Option(min=1, max=8)] = 2,
    accounts: Annotated[int, typer.Option(min=1, help="Accounts that use")] = 2000,
    seed: Annotated[int, typer.Option(help="Of load and faults")] = 1,
    duration: Annotated[float, typer.Option(min=0, help="Seconds that the faults take at least")] = 0,
    outage_seconds: Annotated[float, typer.Option(min=1, help="How long ClickHouse is away at a time")] = 20,
    phase: Annotated[
        list[str] | None, typer.Option(help="Only in this phase; several times for several")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of fault; several times")] = None,
    report_path: Annotated[
        Path | None, typer.Option("--report", help="JSON file that is rewritten as the run goes on")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout")] = False,
) -> None:
    """Kill, stop and restart every program in each of its phases under load, then account for every record.

    Runs a stack of its own in a temporary directory, which is kept when anything differs. Then reconcile and an
    auditor that shares no code with the pipeline judge the raw input log. Exit code 6 if anything differs.
    """
    from pipeline.chaos import ChaosPlan
    from pipeline.chaos.plan import USUAL_KINDS, Kind
    from pipeline.cli.output import say, write_json
    from pipeline.crash_points import Phase

    audit = _auditor()
    phases = _chosen(Phase, phase)
    plan = ChaosPlan(
        events=events,
        faults=max(faults, each * len(phases)),
        seed=seed,
        workers=workers,
        sinks=sinks,
        accounts=accounts,
        duration_seconds=duration,
        outage_seconds=outage_seconds,
        phases=phases,
        kinds=_chosen(Kind, kind) if kind else USUAL_KINDS,
    )
    home = Path(tempfile.mkdtemp(prefix="creditstream-chaos-"))
    say(f"{plan.faults} faults over {plan.events} events, seed {plan.seed}, in {home}")
    report = _run(plan, home, audit=audit, keep=_keeper(report_path or home / "report.json"))
    if as_json:
        write_json(_as_json(report))
    else:
        _write(report)
    if not report.equal:
        say(f"Everything is kept in {home}")
        raise typer.Exit(Exit.FINDINGS)
    _remove(home)


def _run(
    plan: "ChaosPlan",
    home: Path,
    *,
    audit: Callable[..., Any],
    keep: Callable[["ChaosReport"], None],
) -> "ChaosReport":
    """A signal ends the stack too. What keeps it from starting is said with the remedy."""
    from pipeline.chaos import run_chaos
    from pipeline.cli.output import say
    from pipeline.cli.stack import end_once
    from pipeline.local import LocalStackError

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_once)
    base_ms = int(time.time() * 1000)  # noqa: TID251  (the one reading)
    try:
        return run_chaos(plan, home, base_ms=base_ms, audit=audit, say=say, keep=keep)
    except ValueError as error:  # A kind that strikes nothing of a phase.
        raise CliError(Exit.USAGE, str(error)) from error
    except LocalStackError as error:
        raise CliError(
            Exit.FAILED, "the local stack could not start", why=str(error), next_step="creditstream doctor"
        ) from error


def _chosen(closed: Any, names: list[str] | None) -> tuple[Any, ...]:  # noqa: ANN401  (Phase or Kind)
    try:
        return tuple(closed(name) for name in names) if names else tuple(closed)
    except ValueError as error:
        raise CliError(Exit.USAGE, str(error), next_step=f"one of {', '.join(closed)}") from error


def _auditor() -> Callable[..., Any]:
    """The auditor must share nothing with what it judges, so it lives with the tests."""
    try:
        audit: Callable[..., Any] = importlib.import_module("tests.e2e.audit").audit_log
    except ModuleNotFoundError as error:
        raise CliError(
            Exit.FAILED,
            "the auditor is not here",
            why=f"it is part of the source tree, not of the installed package ({error})",
            next_step="run it in a clone, with the development dependencies (README.md, tests)",
        ) from error
    return audit


def _keeper(path: Path) -> Callable[["ChaosReport"], None]:
    """Rewrites the report's file, whole or not at all."""
    import orjson

    def keep(report: "ChaosReport") -> None:
        beside = path.with_suffix(".new")
        beside.write_bytes(orjson.dumps(_as_json(report), default=str, option=orjson.OPT_INDENT_2))
        beside.replace(path)

    return keep


def _remove(home: Path) -> None:
    import shutil

    shutil.rmtree(home, ignore_errors=True)


def _as_json(report: "ChaosReport") -> dict[str, Any]:
    from dataclasses import asdict

    return {"equal": report.equal, **asdict(report)}


def _write(report: "ChaosReport") -> None:
    from pipeline.cli.output import write, write_table

    rows = [
        (phase, sum(kinds.values()), ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
        for phase, kinds in sorted(report.by_phase.items())
    ]
    write_table(("phase", "faults", "of which"), rows, title="Faults that struck a process in its phase")
    write(f"{report.zombies} stopped processes woke up after their partitions had gone on elsewhere.\n")
    columns = ("count", "p50", "p99", "max")
    recovered = [
        (kind, *(times.get(name, "") for name in columns)) for kind, times in report.recovery.items()
    ]
    write_table(("fault", *columns), recovered, title="Seconds from the fault to the next commit")
    taken = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sorted(report.memory_max_bytes.items()))
    write(
        f"Longest standstill of a partition: {report.standstill} s. Restarts: {sum(report.restarts.values())}.\n"
        f"Most memory of one process, in MB: {taken}.\n"
    )
    write(
        f"{report.published} records published, {report.resent} sent again after a timeout, "
        f"{report.arrived_twice} of them arrived twice."
    )
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.outcomes.items()))
    write(f"{report.records} records of the log: {outcomes}.")
    write(f"The running reconciler had compared {report.compared} of its offsets, ticks among them.")
    write(
        f"{report.accounts} accounts, {report.statements} statements, {report.credits_charged} credits charged."
    )
    if report.equal:
        write("Log = auditor = ledger = table = ClickHouse: no difference.")
        return
    write(f"{report.differences_total} differences:")
    for line in report.differences:
        write(f"  {line}")
