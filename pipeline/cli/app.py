"""Assembles the command line: which commands there are, under which heading, each with the same ends."""

from collections.abc import Callable
from typing import Annotated, Final

import typer

from pipeline.cli import (
    account,
    backup,
    bench,
    chaos,
    dead_letters,
    demo,
    export,
    hold,
    keys,
    look,
    notifications,
    periods,
    plan,
    price,
    price_book,
    rebuild,
    reverse,
    send,
    services,
    simulate,
    stack,
    watch,
    what_if,
)
from pipeline.cli.exits import EXIT_CODES_HELP, guarded
from pipeline.cli.output import write

STACK: Final = "Local stack"
USE: Final = "Use it"
LOOK: Final = "See what happened"
RULES: Final = "Try the rules (no Kafka needed)"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # A traceback of ours is for a bug report: whole and plain.
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES_HELP,
    help="Usage events from Kafka, priced in credits by a Faust stream, stored in ClickHouse.",
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        write(f"creditstream {version('creditstream')}")
        raise typer.Exit


@app.callback()
def creditstream(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version")
    ] = False,
) -> None:
    """Usage events from Kafka, priced in credits by a Faust stream, stored in ClickHouse.

    Results go to stdout, talk and progress to stderr. Settings: CREDITSTREAM_… in the environment, and settings.json
    in the state directory (CREDITSTREAM_HOME, else ./.creditstream).
    """
    del version


def _register(panel: str, *commands: Callable[..., None]) -> None:
    for command in commands:
        name = command.__name__.replace("_", "-")
        app.command(name, rich_help_panel=panel, epilog=EXIT_CODES_HELP)(guarded(command))


_register(STACK, stack.up, stack.down, stack.status, stack.doctor, stack.reset)
_register(USE, demo.demo, send.send, reverse.reverse, reverse.rerate)
for group in (account, plan, price_book, hold, keys, notifications):
    group.register()
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2].replace("_", "-"), rich_help_panel=USE)
dead_letters.register()
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=LOOK)
_register(
    LOOK, look.balance, look.usage, periods.statement, periods.alerts, periods.topups, look.explain, look.sql
)
_register(LOOK, export.export, export.verify)
_register(LOOK, watch.tail, watch.reconcile)
_register(LOOK, what_if.what_if)
_register(RULES, price.price, simulate.simulate)
REPAIR: Final = "Keep and mend"
_register(REPAIR, backup.backup, backup.sweep)
rebuild.register()
app.add_typer(rebuild.app, name="rebuild", rich_help_panel=REPAIR)
backup.register()
app.add_typer(backup.restore_app, name="restore", rich_help_panel=REPAIR)
_register("Programs of a deployment", services.worker, services.sink, services.scheduler)
_register("Programs of a deployment", services.late_lane, services.payments, services.notifier)
_register("Programs of a deployment", services.gateway, services.reconciler, services.setup)
_register("Measure it", bench.bench, chaos.chaos)
