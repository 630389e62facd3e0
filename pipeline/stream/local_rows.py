"""The table of one partition on local disk: a copy of its changelog up to a position, never more than that.

One file has all rows as of some position (`whole_rows`), logs what has changed since (`row_log`). A start reads them
and only the end of the changelog. What is damaged, foreign or behind a gap is thrown away, with a word about why, and
read from Kafka. Committed rows wait in memory until they are written, so a disk that refuses costs nothing but time at
the next start: what it has stays true, and once it takes files again they go on without a gap.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.stream.compactor import Compactor
from pipeline.stream.row_log import Entry, RowLog, read_log
from pipeline.stream.whole_rows import Origin, UnusableError, WholeRows, read_whole

KEEP_SECONDS: Final = 1.0
"""Between two entries of a log: an account that is used all the time is written once in each. What a kill leaves
unwritten is read from Kafka."""
RETRY_SECONDS: Final = 60.0
"""After the disk refused."""
LOG_SHARE: Final = 0.5
"""Of the bytes of all rows: with larger logs the file of all rows is written anew."""
LOG_SHARE_MAX: Final = 4
"""With logs this many times as large as when that file was first wanted nothing is written any more: it fails."""
LIST_ATTEMPTS_MAX: Final = 3
"""Files may be replaced while they are looked at."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Found:
    """What the files of a partition say: everything up to `position`, or nothing, up to 0."""

    position: int = 0
    """The first offset of the changelog that must be read from Kafka."""
    whole: WholeRows | None = None
    changed: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    """Newer rows than those of `whole`; published content and the cursor among them."""


class LocalRows:
    """The files of one partition. `note` belongs to the event loop, `load` and `keep` to any one other thread."""

    def __init__(self, directory: Path, origin: Origin, *, log_bytes_min: int, compactor: Compactor) -> None:
        self._directory = directory
        self._origin = origin
        self._log_bytes_min = log_bytes_min
        self._compactor = compactor
        self._lock = threading.Lock()
        self._waiting: dict[bytes, bytes] = {}
        """Rows that no file has."""
        self._position = 0
        """Up to which `_waiting` and the files are complete."""
        self._written = 0
        """Up to which the files are."""
        self._log: RowLog | None = None
        self._next_at = 0.0
        self._log_bytes_max: int | None = None
        """While a file of all rows is wanted: the bytes of logs at which nothing is written any more."""
        self._is_stopped = False

    def load(self) -> Found:
        """What can be used."""
        for _ in range(LIST_ATTEMPTS_MAX):
            try:
                return read_rows(self._directory, self._origin)
            except FileNotFoundError:
                continue
        return Found()

    def go_on_from(self, written: int, rows: Mapping[bytes, bytes], position: int) -> None:
        """The table is loaded: up to `written` from files, and `rows` from Kafka, up to `position`."""
        self._written = written
        self.note(rows, position)

    def note(self, rows: Mapping[bytes, bytes], position: int) -> None:
        """Rows that were committed, the cursor among them."""
        with self._lock:
            if not self._is_stopped:
                self._waiting.update(rows)
                self._position = max(self._position, position)

    @property
    def wants_keeping(self) -> bool:
        """Whether it is time to write."""
        return bool(self._waiting) and time.monotonic() >= self._next_at

    def keep(self) -> None:
        """Write what waits, if the disk takes it."""
        with self._lock:
            rows, self._waiting = self._waiting, {}
            entry = Entry(self._written, self._position, rows)
        if not rows:
            return
        self._next_at = time.monotonic() + KEEP_SECONDS
        try:
            self._append(entry)
        except OSError as error:
            _LOG.warning(
                "%s: rows are not kept on disk for now, which refuses them (%s): the next start reads more from Kafka",
                self._directory,
                error,
            )
            self._next_at = time.monotonic() + RETRY_SECONDS
            self._close_log()  # Its end may be torn.
            with self._lock:
                self._waiting = {**rows, **self._waiting}
        else:
            self._consider_compaction()

    def close(self) -> None:
        """Write what waits, and give the files up."""
        self.keep()
        self._close_log()

    def discard(self, reason: str) -> None:
        """Throw all of it away."""
        _LOG.warning("%s is thrown away and read from Kafka: %s", self._directory, reason)
        for path in _files(self._directory):
            delete(path)

    def _append(self, entry: Entry) -> None:
        if self._log is None:
            name = f"{entry.since:020d}-{os.getpid()}{LOG_SUFFIX}"
            self._log = RowLog(self._directory / name, self._origin)
        self._log.append(entry)
        self._written = entry.position

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _consider_compaction(self) -> None:
        whole, logs = _bytes(self._directory, WHOLE_SUFFIX), _bytes(self._directory, LOG_SUFFIX)
        if logs <= max(self._log_bytes_min, int(whole * LOG_SHARE)):
            self._log_bytes_max = None
        elif self._log_bytes_max is not None and logs > self._log_bytes_max:
            _LOG.warning(
                "%s: rows are not kept on disk any more, the logs have %d bytes", self._directory, logs
            )
            with self._lock:
                self._is_stopped, self._waiting = True, {}
        elif self._compactor.is_free():
            self._log_bytes_max = self._log_bytes_max or LOG_SHARE_MAX * logs
            self._close_log()
            self._compactor.begin(self._directory, self._origin, self._written)


WHOLE_SUFFIX: Final = ".whole"
LOG_SUFFIX: Final = ".log"


def read_rows(directory: Path, origin: Origin, *, before: int | None = None) -> Found:
    """What the files of a partition have; files that say nothing that can be used are deleted. `before`: leave out
    logs that begin there or later. Raises FileNotFoundError when a file goes meanwhile."""
    files, found = _files(directory), Found()
    for path in (each for each in reversed(files) if each.suffix == WHOLE_SUFFIX):
        try:
            found.whole = read_whole(path, origin)
        except UnusableError as error:
            _throw_away(path, error)
        else:
            found.position = found.whole.position
            break
    for path in (each for each in files if each.suffix == LOG_SUFFIX):
        if before is None or start_of(path) < before:
            _read_on(path, origin, found)
    return found


def _read_on(path: Path, origin: Origin, found: Found) -> None:
    """Take in the entries of a log, as far as they follow without a gap."""
    known = found.position
    try:
        for entry in read_log(path, origin):
            _take_in(entry, found)
    except UnusableError as error:
        if found.position == known:
            _throw_away(path, error)
        else:
            _LOG.info("%s is read up to %d: %s", path, found.position, error)


def _take_in(entry: Entry, found: Found) -> None:
    if entry.since > found.position:
        raise UnusableError(
            f"it goes on from {entry.since}, known is only what comes before {found.position}"
        )
    if entry.position > found.position:
        found.changed.update(entry.rows)
        found.position = entry.position


def start_of(path: Path) -> int:
    """The position from which a log goes on, or up to which a file has all rows."""
    return int(path.stem.partition("-")[0])


def delete(path: Path) -> None:
    """A file that nobody needs; one that cannot be deleted is said."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _LOG.warning("cannot delete %s: %s", path, error)


def _bytes(directory: Path, suffix: str) -> int:
    total = 0
    for path in _files(directory):
        with suppress(FileNotFoundError):  # Replaced meanwhile.
            total += path.stat().st_size if path.suffix == suffix else 0
    return total


def _throw_away(path: Path, error: UnusableError) -> None:
    _LOG.warning("%s is thrown away and read from Kafka: %s", path, error)
    delete(path)


def _files(directory: Path) -> list[Path]:
    """By position."""
    try:
        found = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    ours = [path for path in found if path.suffix in {WHOLE_SUFFIX, LOG_SUFFIX}]
    return sorted((path for path in ours if path.stem.partition("-")[0].isdecimal()), key=start_of)
