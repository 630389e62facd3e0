"""A file to which the rows of committed batches are appended: what has changed since the file of all rows was written.

An entry says from which position of the changelog to which one it goes, so entries may be read in any state that lies
between: a gap is noticed. An entry that is torn or damaged ends what is read of its file.
"""

import mmap
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import orjson

from pipeline.stream.whole_rows import WRITE_ROWS, Origin, UnusableError, mapped, require_origin

HEADER_BYTES: Final = 512
_ENTRY: Final = Struct("<QQIQ")
"""Since, position, rows, bytes after this and before the checksum."""
_LENGTHS: Final = Struct("<HI")
_CRC: Final = Struct("<I")


class Entry(NamedTuple):
    """The newest rows of all keys that changed from `since` up to `position`, the cursor among them."""

    since: int
    position: int
    rows: dict[bytes, bytes]


class RowLog:
    """A log that is written. One thread at a time."""

    def __init__(self, path: Path, origin: Origin) -> None:
        """Raises OSError."""
        self.path = path
        self.bytes = HEADER_BYTES
        header = orjson.dumps(origin.as_json()).ljust(HEADER_BYTES)
        self._seed = crc32(header)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb", buffering=0)
        try:
            _write(self._file.fileno(), header)
        except OSError:
            self._file.close()
            raise

    def append(self, entry: Entry) -> None:
        """Write one entry. After an OSError the log must not be written any more: its end is torn.

        Not synced: the page cache outlives the process, and for the machine's end there are the checksum and Kafka.
        """
        rows = entry.rows
        lengths = b"".join([_LENGTHS.pack(len(key), len(row)) for key, row in rows.items()])
        size = len(lengths) + sum(map(len, rows)) + sum(map(len, rows.values()))
        head = _ENTRY.pack(entry.since, entry.position, len(rows), size)
        crc = self._seed
        for piece in chain((head, lengths), _pieces(rows)):
            crc = crc32(piece, crc)
            _write(self._file.fileno(), piece)
        _write(self._file.fileno(), _CRC.pack(crc))
        self.bytes += len(head) + size + _CRC.size

    def close(self) -> None:
        """Give the file up."""
        self._file.close()


def read_log(path: Path, origin: Origin) -> Iterator[Entry]:
    """The entries of a log, up to the first that is not whole, which raises UnusableError. Raises OSError."""
    content = mapped(path)
    header = content[:HEADER_BYTES]
    try:
        require_origin(orjson.loads(header), origin)
    except (ValueError, AttributeError) as error:
        raise UnusableError(f"its header cannot be read ({error})") from error
    seed, place, end = crc32(header), HEADER_BYTES, len(content)
    view = memoryview(content)
    while place < end:
        start = place + _ENTRY.size
        if start > end:
            raise UnusableError(f"it is cut at byte {end}")
        since, position, count, size = _ENTRY.unpack_from(content, place)
        if start + size + _CRC.size > end or _LENGTHS.size * count > size:
            raise UnusableError(f"it is cut or damaged at byte {place}")
        if (crc32(view[place : start + size], seed),) != _CRC.unpack_from(content, start + size):
            raise UnusableError(f"it is damaged after byte {place}")
        yield Entry(since, position, _rows(content, start, count))
        place = start + size + _CRC.size


def _pieces(rows: Mapping[bytes, bytes]) -> Iterator[bytes]:
    pairs = list(rows.items())
    for start in range(0, len(pairs), WRITE_ROWS):
        yield b"".join(chain.from_iterable(pairs[start : start + WRITE_ROWS]))


def _rows(content: mmap.mmap, start: int, count: int) -> dict[bytes, bytes]:
    place = start + _LENGTHS.size * count
    rows: dict[bytes, bytes] = {}
    for key_bytes, row_bytes in _LENGTHS.iter_unpack(content[start:place]):
        middle, end = place + key_bytes, place + key_bytes + row_bytes
        rows[content[place:middle]] = content[middle:end]
        place = end
    return rows


def _write(file: int, piece: bytes) -> None:
    """All of it: a disk that becomes full takes a part without a word."""
    written = os.write(file, piece)
    while written < len(piece):
        written += os.write(file, memoryview(piece)[written:])
