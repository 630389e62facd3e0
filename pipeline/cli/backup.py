"""`creditstream backup`, `restore` and `sweep`: what is kept elsewhere, brought back, and charges that came twice."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded

restore_app = typer.Typer(no_args_is_help=True, help="Bring a backup back")
Directory = Annotated[Path, typer.Argument(metavar="DIRECTORY")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]


def backup(directory: Directory, *, as_json: Json = False) -> None:
    """Back up the account table and ClickHouse into a new directory, while everything runs.

    Bring back: `creditstream restore clickhouse DIRECTORY --yes`, `creditstream rebuild table --from DIRECTORY --yes`.
    """
    from pipeline.cli.output import say, write, write_json
    from pipeline.repair.backup import BackupError, back_up
    from pipeline.repair.snapshot import SnapshotError
    from pipeline.settings import Settings

    try:
        manifest = back_up(Settings(), directory, progress=say)
    except (BackupError, SnapshotError) as error:
        raise CliError(Exit.FAILED, "no backup was made", why=str(error)) from error
    if as_json:
        write_json(manifest)
        return
    for each in manifest["partitions"]:
        write(f"partition {each['partition']}: ClickHouse before input offset {each['before']}")
    write(f"{sum(table['rows'] for table in manifest['tables'].values())} rows in {directory}")


def clickhouse(
    directory: Directory, *, yes: Annotated[bool, typer.Option("--yes", help="Really do it")] = False
) -> None:
    """Put ClickHouse's tables back as they were; the sink brings what came since from Kafka."""
    from pipeline.cli.output import say
    from pipeline.repair.backup import BackupError, restore_clickhouse
    from pipeline.settings import Settings

    settings = Settings()
    if not yes:
        raise CliError(
            Exit.USAGE,
            f"this drops all tables of ours in {settings.clickhouse.database}",
            next_step=f"creditstream restore clickhouse {directory} --yes",
        )
    try:
        restore_clickhouse(settings, directory, progress=say)
    except BackupError as error:
        raise CliError(Exit.REFUSED, "this backup cannot be brought back", why=str(error)) from error
    say("The sink brings the rest. Next: `creditstream reconcile --wait 600`.")


def sweep(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take back")] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Also charges whose content differs from the first of the id")
    ] = False,
    every: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="Sweep again and again until SIGTERM; 0: once")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Take back what was charged more than once under one id, which an id sent again with a new `time` brings.

    Exit code 6 with --dry-run when there is something.
    """
    from datetime import UTC, datetime

    from pipeline.repair.sweep import run_every
    from pipeline.repair.sweep import sweep as swept
    from pipeline.settings import Settings
    from pipeline.stopping import stop_asked

    settings = Settings()

    def once() -> bool:
        now_ms = int(datetime.now(UTC).timestamp() * 1000)  # noqa: TID251  (the shell)
        found = swept(settings, now_ms=now_ms, conflicts=conflicts, dry_run=dry_run)
        for each in found:
            _tell(each, as_json=as_json, takes=each.same_content or conflicts)
        return bool(found)

    if every:
        stop = stop_asked()
        run_every(once, lambda: stop.wait(every))
    elif once() and dry_run:
        raise typer.Exit(Exit.FINDINGS)


def _tell(charged: object, *, as_json: bool, takes: bool) -> None:
    from pipeline.cli.output import write, write_json
    from pipeline.repair.sweep import Charged

    assert isinstance(charged, Charged), charged
    if charged.command is None:
        what = "its record is no longer in Kafka: give credits instead"
    elif takes:
        what = "taken back"
    else:
        what = "other content than the first: named only (--conflicts)"
    if as_json:
        fields = ("account_id", "source", "event_id", "partition", "offset", "first_offset", "same_content")
        told = {name: getattr(charged, name) for name in fields}
        write_json({**told, "left": str(charged.left), "taken_back": takes and charged.command is not None})
        return
    write(
        f"{charged.account_id} {charged.source} {charged.event_id}: {charged.left} credits at offset {charged.offset}, "
        f"charged before at {charged.first_offset}: {what}"
    )


def register() -> None:
    """Put the command under `creditstream restore`."""
    restore_app.command("clickhouse", epilog=EXIT_CODES_HELP)(guarded(clickhouse))
