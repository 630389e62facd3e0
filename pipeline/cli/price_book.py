"""`creditstream price-book …`: which prices there are, from when they count, and new ones for a running deployment."""

from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.cli import contents, publishing
from pipeline.cli.commanding import CommandId, Json
from pipeline.cli.exits import EXIT_CODES_HELP, guarded

app = typer.Typer(no_args_is_help=True, help="List, show, compare, check and publish price books.")
File = Annotated[str, typer.Argument(metavar="FILE", help="JSON, as in schemas/price_books/")]
Bundled = Annotated[
    bool, typer.Option("--bundled", help="What this release brings for a new deployment; needs no Kafka")
]
At = Annotated[
    str, typer.Option(metavar="INSTANT", help="Takes the place of the file's effective_from (RFC 3339)")
]
FILE_OR_VERSION = "A file, else a version of this release, else of the running deployment"


def list_books(*, bundled: Bundled = False, as_json: Json = False) -> None:
    """List the price books of the running deployment, and whether all partitions have them."""
    publishing.versions(contents.price_books(), bundled=bundled, as_json=as_json)


def show(version: Annotated[str, typer.Argument(metavar="VERSION|FILE", help=FILE_OR_VERSION)]) -> None:
    """Show a whole price book as JSON."""
    contents.show(contents.price_books(), version)


def validate(file: File, *, as_json: Json = False) -> None:
    """Check a file by the worker's own rules. Exit code 4 and the place of the first fault when it is no price book."""
    contents.validate(contents.price_books(), file, as_json=as_json)


def diff(
    before: Annotated[str, typer.Argument(metavar="VERSION|FILE", help=FILE_OR_VERSION)],
    after: Annotated[str, typer.Argument(metavar="VERSION|FILE", help=FILE_OR_VERSION)],
    *,
    as_json: Json = False,
) -> None:
    """Show what changes from one price book to another."""
    contents.diff(contents.price_books(), before, after, as_json=as_json)


def publish(file: File, *, at: At = "", command_id: CommandId = "", as_json: Json = False) -> None:
    """Publish a price book: all partitions switch at its effective_from, at least two minutes from now.

    A version is immutable: the same content again is a duplicate, other content under its name is refused.
    """
    publishing.publish(contents.price_books(), file, at, command_id, as_json=as_json)


def register() -> None:
    """Put the commands under `price-book`."""
    commands: dict[str, Callable[..., None]] = {
        "list": list_books,
        "show": show,
        "validate": validate,
        "diff": diff,
        "publish": publish,
    }
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
