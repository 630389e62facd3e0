"""Reads and writes lines of JSON: any length of stream in bounded memory, and each line answered as soon as it came.

Blank lines say nothing and get no answer; every other line gets exactly one, in order.
"""

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.cli.exits import CliError, Exit

CHUNK_BYTES: Final = 1 << 20
LINES_MAX: Final = 5000
"""Lines that are handed on at once: bounds what waits, whatever the length of the stream."""
STDIN: Final = "-"


@contextmanager
def opened(source: str) -> Generator[BinaryIO, None, None]:
    """The file of that name, or stdin for `-`."""
    if source == STDIN:
        yield sys.stdin.buffer
        return
    path = Path(source)
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CliError(
            Exit.NOT_FOUND, f"expected a file or `-` for stdin, got {source!r}", why=reason
        ) from error
    with file:
        yield file


def slices(source: BinaryIO) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines in slices: what has come is handed on at once, never waiting for more."""
    number, rest = 0, b""
    read = getattr(source, "read1", source.read)  # As much as there is, not as much as was asked for.
    while chunk := read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from _numbered(whole, number)
        number += len(whole)
    yield from _numbered([rest], number)


def _numbered(lines: list[bytes], before: int) -> Iterator[list[tuple[int, bytes]]]:
    said = [(before + index, line) for index, line in enumerate(lines, start=1) if line.strip()]
    for start in range(0, len(said), LINES_MAX):
        yield said[start : start + LINES_MAX]


def write_lines(lines: Iterable[bytes]) -> None:
    """Lines to stdout, at once: a reader may wait for the answer before it sends the next question."""
    sys.stdout.buffer.write(b"".join([line + b"\n" for line in lines]))
    sys.stdout.buffer.flush()
