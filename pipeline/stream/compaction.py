"""The process that makes one file of all rows of a partition from the last one and the logs since.

It verifies the table against the digest of its cursor, row by row: what a start reads was right when it was written.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Final

import orjson

from pipeline.logs import log_to_stderr
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, decode_cursor
from pipeline.stream.local_rows import LOG_SUFFIX, WHOLE_SUFFIX, delete, read_rows, start_of
from pipeline.stream.rows import Rows
from pipeline.stream.whole_rows import Origin, write_whole

NICENESS: Final = 10

_LOG: Final = logging.getLogger(__name__)


def compact(directory: Path, origin: Origin, before: int) -> bool:
    """Write the file, and delete what it makes needless; False when the table is not what its cursor says: then all
    of it is deleted. Raises OSError."""
    for left in directory.glob("*.new"):
        delete(left)  # By one that was killed.
    found = read_rows(directory, origin, before=before)
    if not found.changed:
        return True
    whole = found.whole
    rows = Rows(found.changed, {}) if whole is None else Rows({**whole.reserved, **found.changed}, whole)
    path = directory / f"{found.position:020d}{WHOLE_SUFFIX}"
    beside = path.with_suffix(f".{os.getpid()}.new")
    try:
        digest = write_whole(beside, rows, origin, found.position)
        is_right = digest == decode_cursor(rows[CURSOR_KEY]).digest
        if is_right:
            beside.replace(path)
    finally:
        delete(beside)
    for each in directory.iterdir():
        needless = each.suffix == WHOLE_SUFFIX and each != path
        if needless or (each.suffix == LOG_SUFFIX and start_of(each) < before):
            delete(each)
    return is_right


def main() -> int:
    """The program: the directory, the origin as JSON, and before which position logs are taken in."""
    log_to_stderr(Settings().log, logging.WARNING)
    directory, origin, before = sys.argv[1:]
    os.nice(NICENESS)
    try:
        is_right = compact(Path(directory), Origin(**orjson.loads(origin)), int(before))
    except OSError as error:
        _LOG.warning("%s: %s", directory, error)
        return 1
    if not is_right:
        _LOG.warning("%s is thrown away: its rows are not those of its cursor's digest", directory)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
