"""`creditstream hold …`: credits set aside before the work, charged for what was done, or given back."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipeline.cli.commanding import Account, CommandId, Json, Reason, checked, command
from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded
from pipeline.cli.usage_options import SOURCE, Source, Time, checked_usage, with_usage_options

app = typer.Typer(
    no_args_is_help=True, help="Set credits aside before the work; charge it or give them back."
)

HoldId = Annotated[str, typer.Argument(metavar="HOLD_ID", help="Your name for it, such as a job's id")]


@with_usage_options
def place(
    account: Account,
    hold_id: HoldId,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="What is about to be done")] = "",
    *,
    credits: Annotated[  # noqa: A002
        str, typer.Option(metavar="CREDITS", help="An amount, in place of a service and its options")
    ] = "",
    data: dict[str, Any],
    seconds: Annotated[int | None, typer.Option(min=1, help="Until it is given back by itself: 900")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="As many images as fit, at least one")] = False,
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Set credits aside: what SERVICE with its options would cost, or an amount. Exit code 4 when they are missing.

    Example: creditstream hold place acme job-1 image_generation --quality high --width 1024 --height 1024 --images 8
    """
    from schemas.account_command import PlaceHold

    if bool(service) == bool(credits) or (data and not service):
        raise CliError(
            Exit.USAGE, "expected either a service with its options or --credits", next_step="see --help"
        )
    usage = None
    if service:
        event = checked_usage(service, account, data)
        usage = {name: event[name] for name in ("type", "data")}
    held = checked(
        PlaceHold, hold_id=hold_id, credits=credits, usage=usage, seconds=seconds, partial=partial or None
    )
    command("hold", account, held, command_id, as_json=as_json)


@with_usage_options
def capture(
    account: Account,
    hold_id: HoldId,
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="What was done")],
    *,
    data: dict[str, Any],
    event_id: Annotated[str, typer.Option("--event-id", help="Of the usage; never charged twice")] = "",
    source: Source = SOURCE,
    time: Time = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Charge what was done, at the hold's prices and at most what it holds. The rest goes back.

    Example: creditstream hold capture acme job-1 image_generation --quality high --width 1024 --height 1024 --images 5
    """
    from schemas.account_command import CaptureHold

    event = checked_usage(service, account, data, event_id=event_id, source=source, time=time)
    usage = {name: event[name] for name in ("type", "id", "source", "time", "data")}
    command(
        "capture", account, checked(CaptureHold, hold_id=hold_id, usage=usage), command_id, as_json=as_json
    )


def release(
    account: Account,
    hold_id: HoldId,
    *,
    reason: Reason = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Give everything back to the grants that it came from."""
    from schemas.account_command import ReleaseHold

    data = checked(ReleaseHold, hold_id=hold_id, reason=reason)
    command("release", account, data, command_id, as_json=as_json)


def register() -> None:
    """Put the commands under `hold`."""
    commands: dict[str, Callable[..., None]] = {"place": place, "capture": capture, "release": release}
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
