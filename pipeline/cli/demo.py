"""`creditstream demo`: everything once, from an empty directory to a reconciled deployment, and what happened."""

import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.demo import DemoRun
    from pipeline.reconcile.report import Report
    from pipeline.settings import Settings

KAFKA_PORT: Final = 9092
CLICKHOUSE_PORT: Final = 8123
NATIVE_PORT: Final = 9000
GATEWAY_PORT: Final = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the demonstration ends with."""

    settings: "Settings"
    run: "DemoRun"
    usage: list[dict[str, Any]]
    balances: list[dict[str, Any]]
    explained: dict[str, Any]
    entries: list[dict[str, Any]]
    report: "Report"
    disagreements: list[str]
    seconds: float
    """From the command to the last outcome."""


def demo(
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running in the background")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout")] = False,
) -> None:
    """Start the local stack, publish real usage, show what became of it and that everything agrees.

    Five worked examples, 300 seeded events, a resend, a request that is too large and a broken message. Uses the
    stack that runs, else starts one and stops it at the end; the data stays. Exit code 6 if anything disagrees.
    """
    from pipeline.cli.output import say, write_json

    began = time.monotonic()
    with _stack(keep=keep) as (settings, runs_on):
        say("Publishing usage")
        shown = _shown(settings, say, began)
        if as_json:
            write_json(_as_json(shown, runs_on=runs_on))
        else:
            _write(shown, runs_on=runs_on)
    if shown.disagreements or not shown.report.equal:
        raise typer.Exit(Exit.FINDINGS)


@contextmanager
def _stack(*, keep: bool) -> Generator[tuple["Settings", bool], None, None]:
    """The settings of a running stack, and whether it runs on afterwards."""
    from pipeline.cli.output import say
    from pipeline.cli.stack import end_once, in_background
    from pipeline.local import LocalStackError
    from pipeline.local.home import Home
    from pipeline.local.ports import is_free
    from pipeline.local.stack import LocalStack, StackOptions
    from pipeline.settings import Settings

    home = Home(Settings().home)
    ports = [
        port if is_free(port) else None for port in (KAFKA_PORT, CLICKHOUSE_PORT, NATIVE_PORT, GATEWAY_PORT)
    ]
    if home.supervisor() is not None:
        say(f"Using the stack that runs in {home.directory}")
        yield Settings(), True
        return
    if keep:
        names = ("kafka-port", "clickhouse-port", "native-port", "gateway-port")
        in_background([f"--{name}={port or 'auto'}" for name, port in zip(names, ports, strict=True)])
        yield Settings(), True
        return
    say(f"Starting the local stack in {home.directory}")
    options = StackOptions(
        kafka_port=ports[0], clickhouse_port=ports[1], native_port=ports[2], gateways=0, notifiers=0
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_once)
    try:
        with LocalStack(home.directory, options, say=say) as stack:
            yield stack.settings, False
    except LocalStackError as error:
        raise CliError(
            Exit.FAILED, "the local stack could not start", why=str(error), next_step="creditstream doctor"
        ) from error


def _shown(settings: "Settings", say: Callable[[str], None], began: float) -> Shown:
    from pipeline import demo as demonstration
    from pipeline.clickhouse import open_analyst
    from pipeline.client.commands import command_key
    from pipeline.query.accounts import balance, usage
    from pipeline.query.explanation import explain
    from pipeline.reconcile.run import reconcile

    key = command_key(settings)
    if key is None:
        raise CliError(
            Exit.USAGE, "there is no command key to open accounts with", next_step="creditstream up"
        )
    run = demonstration.run_demo(settings, key, say=say)
    seconds = time.monotonic() - began
    say("Comparing Kafka, the ledger, the table and ClickHouse")
    report = reconcile(settings)  # It waits until the sink has stored everything.
    client = open_analyst(settings.clickhouse)
    used = usage(client, list(run.accounts), by="service")
    explanation = explain(client, f"{run.name}-{demonstration.EXPLAINED}", account=run.accounts[0])
    explained = explanation.metered[0]
    stored = {row["service"]: Decimal(row["credits"]) for row in used}
    return Shown(
        settings=settings,
        run=run,
        usage=used,
        balances=[found for account in run.accounts if (found := balance(client, account)) is not None],
        explained=explained,
        entries=explanation.entries_of(explained),
        report=report,
        disagreements=demonstration.disagreements(run, stored),
        seconds=seconds,
    )


def _write(shown: Shown, *, runs_on: bool) -> None:
    from pipeline.cli.output import write, write_table
    from pipeline.cli.receipts import receipt_lines
    from pipeline.cli.tables import write_usage
    from pipeline.cli.watch import write_report
    from pipeline.demo import EXAMPLES

    run = shown.run
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in run.counts().items())
    write(f"\n{len(run.events)} events in: {counts}. Answered {shown.seconds:.1f} s after the start.\n")
    charged = [[each.what, each.credits, _charged(shown, each.name)] for each in EXAMPLES]
    write_table(("the product page's example", "the page says", "charged"), charged)
    write("\nCredits by service, from ClickHouse")
    write_usage(shown.usage, "service")
    write("\nBalances")
    names = ("account_id", "plan", "available", "period_end")
    write_table(names, [[found[name] for name in names] for found in shown.balances])
    write("\nWhy one of them cost what it cost")
    for line in receipt_lines(shown.explained, shown.entries):
        write(line)
    write("\nDo they agree?")
    for line in shown.disagreements:
        write(f"  NO: {line}")
    write_report(shown.report)
    _write_next(shown, runs_on=runs_on)


def _charged(shown: Shown, name: str) -> object:
    return shown.run.outcome_of(f"{shown.run.name}-{name}").record.get("credits", "-")


def _write_next(shown: Shown, *, runs_on: bool) -> None:
    from pipeline.cli.output import write

    team, settings = shown.run.accounts[0], shown.settings
    write("\nTo go on" + ("" if runs_on else ": `creditstream up -d` brings this back, with all its data"))
    for name, value in _addresses(settings).items():
        write(f"  {name.replace('_', ' '):12}{value}")
    write(f"  creditstream balance {team}")
    write(f"  creditstream explain {shown.run.name}-too-much          # why it was denied")
    write(f"  creditstream send upscaling --account {team} --output-width 2048 --output-height 2048")
    write('  creditstream sql "SELECT service, sum(credits) FROM metered_records_v1 GROUP BY service"')
    if runs_on:
        write("  creditstream down                           # stops what runs in the background")


def _addresses(settings: "Settings") -> dict[str, str]:
    return {
        "kafka": settings.kafka.bootstrap_servers,
        "clickhouse": f"{settings.clickhouse.url}, database {settings.clickhouse.database}",
        "state": str(settings.home.resolve()),
    }


def _as_json(shown: Shown, *, runs_on: bool) -> dict[str, Any]:
    from pipeline.cli.watch import report_as_json
    from pipeline.demo import EXAMPLES

    return {
        "accounts": shown.run.accounts,
        "events": {"published": len(shown.run.events), **shown.run.counts()},
        "seconds_to_outcomes": round(shown.seconds, 3),
        "examples": [
            {"what": each.what, "expected": str(each.credits), "charged": _charged(shown, each.name)}
            for each in EXAMPLES
        ],
        "credits_by_service": shown.usage,
        "balances": shown.balances,
        "explained": shown.explained,
        "disagreements": shown.disagreements,
        "reconcile": report_as_json(shown.report),
        "addresses": _addresses(shown.settings),
        "running": runs_on,
    }
