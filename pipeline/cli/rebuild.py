"""`creditstream rebuild clickhouse | table`: what is lost or wrong, made anew from Kafka."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded

app = typer.Typer(no_args_is_help=True, help="Make ClickHouse or the account table anew from Kafka")
Yes = Annotated[bool, typer.Option("--yes", help="Really do it")]


def clickhouse(
    *,
    yes: Yes = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also where rows are older than what Kafka holds")
    ] = False,
) -> None:
    """Drop ClickHouse's tables and let the sink fill new ones from the oldest record that Kafka holds.

    Sinks may run: they are fenced, end, and go on with the new tables when they are started again. Exit code 4, and
    nothing is done, when Kafka does not hold all rows any more.
    """
    from pipeline.cli.output import say
    from pipeline.repair.clickhouse import LossError, rebuild
    from pipeline.settings import Settings

    settings = Settings()
    _require_yes(yes, f"this drops all tables of ours in {settings.clickhouse.database}", "clickhouse --yes")
    try:
        lost = rebuild(settings, accept_loss=accept_loss, progress=say)
    except LossError as error:
        raise CliError(
            Exit.REFUSED,
            "Kafka does not hold all of it any more, and nothing was done",
            why=str(error),
            next_step="restore a backup (`creditstream restore clickhouse`), or accept the loss: --accept-loss",
        ) from error
    for each in lost:
        say(f"Lost: {each}")
    say("The tables are empty and the sink fills them. Next: `creditstream reconcile --wait 600`.")


def table(
    *,
    yes: Yes = False,
    snapshot: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIRECTORY", help="A backup; else the whole log is folded"),
    ] = None,
) -> None:
    """Make the changelog of the account table anew, from a backup and the log behind it, or from the log alone.

    Stop the workers first. Nothing is said twice: the log is folded up to where its outcomes end, in silence.
    """
    from pipeline.cli.output import say, write
    from pipeline.repair.table import TableRefusedError, rebuild_table
    from pipeline.settings import Settings

    settings = Settings()
    _require_yes(yes, "this replaces every row of the account table", "table --yes")
    try:
        for partition in range(settings.kafka.partitions):
            say(f"partition {partition}: folding the log")
            made = rebuild_table(settings, partition, snapshot)
            write(
                f"partition {partition}: {made.accounts} accounts, next offset {made.next_offset}, digest {made.digest}"
            )
    except TableRefusedError as error:
        raise CliError(Exit.REFUSED, "the table cannot be made from this", why=str(error)) from error
    say("Start the workers; then `creditstream reconcile`.")


def _require_yes(yes: bool, what: str, command: str) -> None:
    if not yes:
        raise CliError(Exit.USAGE, what, next_step=f"creditstream rebuild {command}")


def register() -> None:
    """Put the commands under `creditstream rebuild`."""
    app.command("clickhouse", epilog=EXIT_CODES_HELP)(guarded(clickhouse))
    app.command("table", epilog=EXIT_CODES_HELP)(guarded(table))
