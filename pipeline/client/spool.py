"""Events on disk while Kafka is away: acknowledged after fsync, read in the order in which they were written.

A directory of segments, each a text file with one writer, which holds its lock as long as it lives. A line is
`checksum account event`, so a person can publish a segment by hand: `cut -d' ' -f3- FILE | creditstream send -`.
Segments of a process that has died are adopted by whoever gets their lock. A segment is deleted when all of it is
published: a crash before that sends some events again, with the same ids.
"""

import contextlib
import fcntl
import json
import os
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.client.origin import new_id
from pipeline.client.receipts import Acknowledgement, Problem, Telling
from pipeline.domain.instants import Instant, parse_instant

SUFFIX: Final = ".spool"
_SEGMENTS: Final = 16
"""So many make up the bound: small enough to be read whole, few enough to be kept open."""


class Entry(NamedTuple):
    """One event on its way: its record's key and value, and who waits for it (nobody, when it was spooled)."""

    key: bytes
    value: bytes
    waiting: "Future[Acknowledgement] | None" = None
    event_id: str = ""
    trace: bytes | None = None
    """Its record's `traceparent`. The spool does not keep it."""


class Content(NamedTuple):
    """Of a segment: its events, and what is no event."""

    entries: list[Entry]
    damaged: list[bytes]
    """Whole lines with a wrong checksum: they had been acknowledged."""
    torn: bytes
    """The beginning of a line that was never finished, so never acknowledged."""


def line_of(entry: Entry) -> bytes:
    """The entry as the spool has it. JSON writes a line break as an escape, so there is none inside."""
    body = b"%b %b" % (entry.key, entry.value)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def read_lines(content: bytes) -> Content:
    """The events of a segment's content."""
    *lines, last = content.split(b"\n")
    entries: list[Entry] = []
    damaged: list[bytes] = []
    for line in lines:
        entry = _entry_of(line)
        if entry is None:
            damaged.append(line)
        else:
            entries.append(entry)
    whole = _entry_of(last) if last else None  # Only the line break is missing.
    return Content([*entries, *([whole] if whole else [])], damaged, b"" if whole else last)


def _entry_of(line: bytes) -> Entry | None:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    key, _, value = body.partition(b" ")
    return Entry(key, value)


def time_of(entry: Entry) -> Instant:
    """The event's own time."""
    return parse_instant(json.loads(entry.value)["time"])


@dataclass(slots=True)
class _Segment:
    path: Path
    file: int
    """Its descriptor, which holds the lock."""
    size_bytes: int = 0
    events: int = 0
    oldest: Instant | None = None
    """Of its first event."""


class Spool:
    """One process's spool. Used by the sender's thread alone; `events`, `size_bytes`, `oldest` may be read by all."""

    def __init__(self, directory: Path, *, bytes_max: int, telling: Telling) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._bytes_max = bytes_max
        self._telling = telling
        self._owner = new_id()
        """Names sort in the order in which processes began."""
        self._made = 0
        self._segments: deque[_Segment] = deque()
        self._writing: _Segment | None = None
        """The last of the segments, as long as it may grow."""
        self._reading: deque[Entry] | None = None
        """What is left of the first of the segments."""
        self._is_damaged = False
        self.events = 0
        self.size_bytes = 0
        self.oldest: Instant | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to be published or cleared away."""
        return not self._segments

    def adopt(self) -> None:
        """Take over what processes that have died left. Only while our own is empty: theirs is older."""
        assert not self._segments, "expected an empty spool"
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):  # Its other adopter was quicker, and is done.
                self._adopt(path)
        self._look_at_oldest()

    def _adopt(self, path: Path) -> None:
        file = os.open(path, os.O_RDWR)
        if not _locks(file) or os.fstat(file).st_nlink == 0:
            os.close(file)
            return
        content = path.read_bytes()
        entries = read_lines(content).entries
        oldest = time_of(entries[0]) if entries else None
        self._segments.append(_Segment(path, file, len(content), len(entries), oldest))
        self.events += len(entries)
        self.size_bytes += len(content)

    def append(self, entries: Iterable[Entry]) -> int:
        """Write as many as there is room for, in order, and fsync. Returns how many. Raises OSError: none of them
        counts as written, though some may be."""
        fitting: list[Entry] = []
        content = bytearray()
        for entry in entries:
            line = line_of(entry)
            if self.size_bytes + len(content) + len(line) > self._bytes_max:
                break
            fitting.append(entry)
            content += line
        if fitting:
            self._write(fitting, content)
        return len(fitting)

    def _write(self, entries: Sequence[Entry], content: bytearray) -> None:
        segment = self._writable()
        try:
            _write_all(segment.file, content)
            os.fsync(segment.file)
        except OSError:
            self._writing = (
                None  # After a failed fsync nobody knows what a file holds: never write there again.
            )
            raise
        finally:
            size = os.fstat(segment.file).st_size
            self.size_bytes += size - segment.size_bytes
            segment.size_bytes = size
        segment.events += len(entries)
        segment.oldest = segment.oldest or time_of(entries[0])
        self.events += len(entries)
        self._look_at_oldest()

    def _writable(self) -> _Segment:
        if self._writing is None or self._writing.size_bytes >= self._bytes_max // _SEGMENTS:
            self._made += 1
            path = self._directory / f"{self._owner}-{self._made:08d}{SUFFIX}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            assert _locks(file), "nobody else knows the file"
            self._writing = _Segment(path, file)
            self._segments.append(self._writing)
            self._sync_directory()
        return self._writing

    def _sync_directory(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def head(self, events_max: int, bytes_max: int) -> list[Entry]:
        """The oldest events, at least one unless the spool is empty. They stay until `advance`."""
        while self._segments and not self._reading:
            self._open_first()
        taken: list[Entry] = []
        size = 0
        for entry in self._reading or ():
            size += len(entry.value)
            if taken and (len(taken) == events_max or size > bytes_max):
                break
            taken.append(entry)
        return taken

    def advance(self, events: int) -> None:
        """So many of the oldest are published."""
        assert self._reading is not None, "head comes before advance"
        for _ in range(events):
            self._reading.popleft()
        self.events -= events
        if not self._reading:
            self._drop_first()
        self._look_at_oldest()

    def _open_first(self) -> None:
        first = self._segments[0]
        if self._writing is first:
            self._writing = None  # What is read does not grow.
        content = read_lines(first.path.read_bytes())
        self.events += len(content.entries) - first.events  # A failed write may have left some.
        first.events = len(content.entries)
        self._is_damaged = bool(content.damaged)
        if content.damaged:
            lines = len(content.damaged)
            self._telling.count("spool_damaged", lines)
            kept = f"{lines} lines with a wrong checksum; {first.path.name} is kept as .damaged"
            self._telling.tell(Problem("spool_damaged", kept, events=lines))
        if content.torn:
            dropped = f"{first.path.name} ends with {len(content.torn)} bytes that were never acknowledged"
            self._telling.tell(Problem("spool_torn", dropped))
        self._reading = deque(content.entries)
        if not self._reading:
            self._drop_first()

    def _drop_first(self) -> None:
        first = self._segments.popleft()
        if self._is_damaged:
            first.path.rename(first.path.with_suffix(".damaged"))
        else:
            first.path.unlink()
        os.close(first.file)
        self.size_bytes -= first.size_bytes
        self._reading = None

    def _look_at_oldest(self) -> None:
        if self._reading:
            self.oldest = time_of(self._reading[0])
        else:
            self.oldest = self._segments[0].oldest if self._segments else None

    def close(self) -> None:
        """Leave what is there to the next process. In a forked child this leaves it to the parent."""
        for segment in self._segments:
            os.close(segment.file)
        self._segments.clear()
        self._writing = self._reading = None


def _write_all(file: int, content: bytearray) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _locks(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
