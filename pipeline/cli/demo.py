"""`creditstream demo`: everything once, from an empty directory to a reconciled deployment, and what happened."""

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.client.commands import CommandKey
    from pipeline.demo.run import DemoRun, Written
    from pipeline.reconcile.report import Report
    from pipeline.settings import Settings

KAFKA_PORT: Final = 9092
CLICKHOUSE_PORT: Final = 8123
NATIVE_PORT: Final = 9000
GATEWAY_PORT: Final = 8000
_DATED: Final = (
    "The month was written on its own dates into a log that was empty; from now on the broker's clock counts."
)
_NOW: Final = (
    "This log was in use, so the whole month was accepted now; after `creditstream reset` it has its dates."
)


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
    """Start the local stack, publish a month of usage, show what became of it and that everything agrees.

    Thirty days of three accounts from one seed, then the five worked examples, and what goes wrong in every real
    stream. Uses the stack that runs, else starts one and stops it at the end; the data stays. In an empty state
    directory the month is accepted on its own dates, else all of it now. Exit code 6 if anything disagrees.
    """
    from pipeline.cli.output import say, write_json

    began = time.monotonic()
    with _stack() as started:
        say("A month of usage, and today's")
        shown = _shown(started, say, began)
        runs_on = keep or started.was_running
        if as_json:
            write_json(_as_json(shown, runs_on=runs_on))
        else:
            _write(shown, runs_on=runs_on)
    if keep and not started.was_running:
        _keep(shown.settings)
    if shown.disagreements or not shown.report.equal:
        raise typer.Exit(Exit.FINDINGS)


@dataclass(frozen=True, slots=True)
class Started:
    """A stack that runs, by us or before us, and the month if it could be written on its own dates."""

    settings: "Settings"
    was_running: bool
    month: "Written | None"


@contextmanager
def _stack() -> Generator[Started, None, None]:
    from pipeline.cli.output import say
    from pipeline.cli.stack import end_once
    from pipeline.local import LocalStackError
    from pipeline.local.home import Home
    from pipeline.local.ports import is_free
    from pipeline.local.stack import LocalStack, StackOptions
    from pipeline.settings import Settings

    home = Home(Settings().home)
    if home.supervisor() is not None:
        say(f"Using the stack that runs in {home.directory}")
        yield Started(Settings(), was_running=True, month=None)
        return
    ports = [port if is_free(port) else None for port in (KAFKA_PORT, CLICKHOUSE_PORT, NATIVE_PORT)]
    say(f"Starting the local stack in {home.directory}")
    months: list[Written] = []
    options = StackOptions(
        kafka_port=ports[0],
        clickhouse_port=ports[1],
        native_port=ports[2],
        gateways=0,
        notifiers=0,
        before_pipeline=lambda settings: months.extend(_dated_month(settings)),
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_once)
    try:
        with LocalStack(home.directory, options, say=say) as stack:
            yield Started(stack.settings, was_running=False, month=months[0] if months else None)
    except LocalStackError as error:
        raise CliError(
            Exit.FAILED, "the local stack could not start", why=str(error), next_step="creditstream doctor"
        ) from error


def _dated_month(settings: "Settings") -> Iterator["Written"]:
    """The month, if nothing stands in the log that is newer than its first day."""
    from pipeline.demo.run import is_log_empty, write_dated_month

    if is_log_empty(settings):
        yield write_dated_month(settings, _key(settings))


def _key(settings: "Settings") -> "CommandKey":
    from pipeline.client.commands import command_key

    key = command_key(settings)
    if key is None:
        raise CliError(
            Exit.USAGE, "there is no command key to open accounts with", next_step="creditstream up"
        )
    return key


def _keep(settings: "Settings") -> None:
    """The same stack in the background, with a gateway."""
    from urllib.parse import urlsplit

    from pipeline.cli.stack import in_background
    from pipeline.local.ports import is_free

    broker, url = settings.kafka.bootstrap_servers, urlsplit(settings.clickhouse.url)
    ports = {
        "kafka-port": broker.rpartition(":")[2],
        "clickhouse-port": url.port,
        "native-port": settings.clickhouse.native_port,
        "gateway-port": GATEWAY_PORT if is_free(GATEWAY_PORT) else "auto",
    }
    in_background([f"--{name}={port}" for name, port in ports.items()])


def _shown(started: Started, say: Callable[[str], None], began: float) -> Shown:
    from pipeline.clickhouse import open_analyst
    from pipeline.demo import run as demonstration
    from pipeline.query.accounts import balance, usage
    from pipeline.query.explanation import explain
    from pipeline.reconcile.run import reconcile

    settings, key = started.settings, _key(started.settings)
    month = started.month or demonstration.write_month_now(settings, key)
    run = demonstration.run_demo(settings, key, month, say=say)
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
    from pipeline.demo.run import EXAMPLES

    run = shown.run
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in run.counts().items())
    write(f"\n{len(run.published)} events and commands in; out came: {counts}.")
    write(f"Answered {shown.seconds:.1f} s after the start. {_DATED if run.is_dated else _NOW}\n")
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
    from pipeline.demo.run import EXAMPLES

    return {
        "accounts": shown.run.accounts,
        "published": len(shown.run.published),
        "outcomes": shown.run.counts(),
        "month_on_its_own_dates": shown.run.is_dated,
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
