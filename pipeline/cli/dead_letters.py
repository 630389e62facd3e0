"""`creditstream dead-letters …`: what could not be metered, why, and how it is put back once the cause is mended."""

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from pipeline.cli.commanding import Json, signing_key
from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded

if TYPE_CHECKING:
    from pipeline.readmission import Letter

app = typer.Typer(
    no_args_is_help=True, help="What could not be metered, and why; put it back once the cause is mended."
)
SOURCE: Final = "/operators/creditstream-cli"
LISTED_MAX: Final = 10_000
STORED_SECONDS_MAX: Final = 30
"""For the sink to pass what a look at the records must see."""

Place = Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="Where the letter stands in the log")]
AccountOption = Annotated[str, typer.Option("--account", metavar="ACCOUNT")]
Reasons = Annotated[list[str], typer.Option("--reason", metavar="CODE", help="May be given several times")]
Limit = Annotated[int, typer.Option(min=1, max=LISTED_MAX)]


def list_(
    *,
    account: AccountOption = "",
    reason: Reasons = [],  # noqa: B006  (Typer reads it, and nobody else)
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List the newest dead letters: where each stands, and why it could not be metered."""
    from pipeline.cli.output import say, write_json, write_table

    letters = _letters(account, reason, limit)
    if as_json:
        write_json(letters)
    elif letters:
        names = ("place", "reason", "account_id", "event_id", "accepted_at", "pointer", "detail")
        rows = [[_shown_place(each), *(each[name] for name in names[1:])] for each in letters]
        write_table(names, rows)
    else:
        say("No dead letters.")


def show(place: Place, *, as_json: Json = False) -> None:
    """Show one dead letter with its bytes. Save the event, mend it, and `replay` it with --event."""
    from pipeline.cli.output import write, write_json

    letter = _letter(place)
    payload = b64decode(letter["payload_base64"])
    if as_json:
        write_json(letter)
        return
    write(f"{_shown_place(letter)}  {letter['reason']} {letter['pointer']}")
    write(f"  {letter['detail']}")
    write(
        f"  account {letter['account_id'] or '?'}, event {letter['event_id'] or '?'}, {letter['accepted_at']}"
    )
    for header in letter["headers"]:
        write(f"  {header['name']}: {b64decode(header['value_base64']).decode('utf-8', 'backslashreplace')}")
    write(payload.decode("utf-8", "backslashreplace"))


def replay(
    place: Annotated[
        str, typer.Argument(metavar="[PARTITION:OFFSET]", help="One letter; else all that the options name")
    ] = "",
    *,
    event: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The mended event, in place of the letter's own")
    ] = None,
    account: AccountOption = "",
    reason: Reasons = [],  # noqa: B006  (as above)
    limit: Limit = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be put back")] = False,
    as_json: Json = False,
) -> None:
    """Put dead letters back into the log, each charged at most once. Exit code 4 when one is refused.

    An event that was answered before, however long ago, is not charged again: the records are looked at first. Its
    lateness counts from when it was first accepted.

    Example: creditstream dead-letters replay --reason unknown_account --account acme
    """
    from pipeline.cli.output import say

    if bool(place) == bool(account or reason) or (event is not None and not place):
        raise CliError(
            Exit.USAGE,
            "expected either PARTITION:OFFSET or --account or --reason, and --event only beside a place",
            next_step="creditstream dead-letters list",
        )
    records = [_letter(place)] if place else _letters(account, reason, limit)
    mended = None if event is None else _event_of(event)
    letters: list[Letter] = []
    for record in records:
        letter = _replayable(record, mended, alone=bool(place))
        if letter is not None:
            letters.append(letter)
    if dry_run or not letters:
        say(f"{len(letters)} of {len(records)} dead letters can be put back.")
        return
    _put_back(letters, as_json=as_json)


def _replayable(record: dict[str, Any], mended: object, *, alone: bool) -> "Letter | None":
    """The letter, or None with a word about why not; an error where it is the only one."""
    from pipeline.cli.output import say
    from pipeline.readmission import letter_of

    try:
        return letter_of(record, mended)
    except ValueError as error:
        if alone:
            raise CliError(
                Exit.USAGE,
                f"the event of {_shown_place(record)} cannot be put back as it is",
                why=str(error),
                next_step="`creditstream dead-letters show`, mend it, and give it with --event FILE",
            ) from error
        say(f"{_shown_place(record)}: left where it is: {error}")
        return None


def _put_back(letters: "list[Letter]", *, as_json: bool) -> None:
    from contextlib import closing

    from pipeline.cli.answers import answer_of, exit_of, worst, write_words
    from pipeline.cli.output import write_json
    from pipeline.clickhouse import open_client
    from pipeline.client.events import encode
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publisher import Publisher
    from pipeline.readmission import NotStoredError, Readmission
    from pipeline.settings import Settings

    settings = Settings()
    readmission = Readmission(
        settings, open_client(settings.clickhouse), signing_key(settings), source=SOURCE
    )
    with (
        closing(readmission),
        Publisher(settings) as publisher,
        OutcomeReader(settings, ("command_result", "dead_letter")) as reader,
    ):
        try:
            commands = readmission.commands(letters, seconds_max=STORED_SECONDS_MAX)
        except NotStoredError as error:
            raise CliError(Exit.UNAVAILABLE, "nothing was put back", why=str(error)) from error
        positions = publisher.publish_all([encode(command) for command in commands])
        found = reader.wait(positions)
    for position in positions:
        (write_json if as_json else write_words)(answer_of(found[position]))
    if code := worst([exit_of(outcome) for outcome in found.values()]):
        raise typer.Exit(code)


def _letters(account: str, reasons: list[str], limit: int) -> list[dict[str, Any]]:
    from pipeline.cli.look import analyst
    from pipeline.query.accounts import BEGINNING
    from pipeline.query.dead_letters import dead_letters

    return dead_letters(analyst(), account=account, reasons=reasons, since=BEGINNING, limit=limit)


def _letter(place: str) -> dict[str, Any]:
    from pipeline.cli.look import analyst
    from pipeline.query.dead_letters import dead_letter

    partition, _, offset = place.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise CliError(Exit.USAGE, f"expected PARTITION:OFFSET such as 2:118, got {place!r}")
    letter = dead_letter(analyst(), int(partition), int(offset))
    if letter is None:
        raise CliError(
            Exit.NOT_FOUND,
            f"there is no dead letter at {place}",
            why="it may not be in ClickHouse yet, or another outcome stands there",
            next_step="creditstream dead-letters list",
        )
    return letter


def _event_of(path: Path) -> object:
    try:
        event: object = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(Exit.USAGE, f"expected a CloudEvent as JSON in {path}", why=str(error)) from error
    return event


def _shown_place(letter: dict[str, Any]) -> str:
    return f"{letter['partition']}:{letter['offset']}"


def register() -> None:
    """Put the commands under `dead-letters`."""
    commands: dict[str, Callable[..., None]] = {"list": list_, "show": show, "replay": replay}
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
