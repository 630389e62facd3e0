"""What commands write: results on stdout as text, tables or JSON; talk on stderr. Colour only on a terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import typer

PIPE_COLUMNS: Final = 240
"""Width of a table that goes into a pipe: nothing is cut off for a terminal that is not there."""


def write_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON value on one line of stdout."""
    typer.echo(orjson.dumps(value, default=str).decode())


def write(text: str = "", *, end: str = "\n") -> None:
    """A line of the result, for people."""
    typer.echo(text + end, nl=False)


def say(text: str) -> None:
    """Talk and progress: stderr."""
    typer.echo(text, err=True)


def write_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None
) -> None:
    """A table on stdout. Columns whose values are all amounts stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(columns):
        amounts = bool(rows) and all(_is_amount(row[index]) for row in rows)
        table.add_column(name, justify="right" if amounts else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
    console.print(table)


def _is_amount(value: object) -> bool:
    text = "" if value is None else str(value)
    return text.lstrip("-").replace(".", "", 1).isdigit()
