"""One file with all rows of a partition, as the changelog had them up to one position. Read where it lies.

Beside each row stand its digest and its boundary, so that a start verifies the table and knows what is due without
decoding a row. Written by `compaction` in a process of its own; what is not exactly as it was written is refused.
"""

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from struct import Struct
from typing import Any, Final
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from pipeline.domain.grants import NEVER
from pipeline.state import CURSOR_KEY, DIGEST_MODULUS, RESERVED_KEYS, next_boundary_ms, row_digest

HEADER_BYTES: Final = 4096
"""A page: what follows is mapped."""
WRITE_ROWS: Final = 1000
"""Joined for one write."""
DIGEST_BYTES: Final = 16
SLOTS_A_ROW: Final = 2
"""At least; of the table that finds a key's row."""
EMPTY: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Of which changelog partition a file is a copy. Another origin makes it foreign."""

    topic: str
    topic_id: str
    """A topic that was deleted and created anew has another."""
    partition: int
    partitions: int

    def as_json(self) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "topic_id": self.topic_id,
            "partition": self.partition,
            "partitions": self.partitions,
        }


class UnusableError(Exception):
    """A file is not, or not wholly, what we wrote about this partition."""


class WholeRows(Mapping[bytes, bytes]):
    """The accounts' rows of a file by their keys; published content and the cursor are read at once."""

    def __init__(self, content: mmap.mmap, header: dict[str, Any]) -> None:
        self.position: int = header["position"]
        """The first offset of the changelog that is not in it."""
        rows, reserved = header["rows"], header["reserved_bytes"]
        place = HEADER_BYTES
        parts: list[memoryview] = []
        everything = memoryview(content)
        for width, count in (
            (8, rows + 1),
            (8, rows),
            (16, rows),
            (4, header["slots"]),
            (4, rows),
            (2, rows),
        ):
            parts.append(everything[place : place + width * count])
            place += width * count
        self._content = content
        self._starts, self._boundaries = parts[0].cast("Q"), parts[1].cast("q")
        self._digests: NDArray[np.uint32] = np.frombuffer(parts[2], dtype=">u4").reshape(-1, 4)
        self._slots, self._due = parts[3].cast("I"), parts[4].cast("I")
        self._key_bytes = parts[5].cast("H")
        self.due_accounts = int(np.count_nonzero(np.frombuffer(parts[1], dtype=np.int64) < NEVER))
        """How many have a boundary at all; the others come after them in line."""
        self.reserved = _unpacked(content[place : place + reserved])
        """Published content and the cursor, by their keys."""

    def _index(self, key: bytes) -> int:
        """Of its row; -1 where there is none."""
        slots, starts, content = self._slots, self._starts, self._content
        mask = len(slots) - 1
        slot = crc32(key) & mask
        while (index := slots[slot]) != EMPTY:
            start = starts[index]
            if self._key_bytes[index] == len(key) and content[start : start + len(key)] == key:
                return index
            slot = (slot + 1) & mask
        return -1

    def _row(self, index: int) -> bytes:
        return self._content[self._starts[index] + self._key_bytes[index] : self._starts[index + 1]]

    def _key(self, index: int) -> bytes:
        start = self._starts[index]
        return self._content[start : start + self._key_bytes[index]]

    def __getitem__(self, key: bytes) -> bytes:
        index = self._index(key)
        if index < 0:
            raise KeyError(key)
        return self._row(index)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._index(key) >= 0

    def __len__(self) -> int:
        return len(self._due)

    def __iter__(self) -> Iterator[bytes]:
        return map(self._key, range(len(self)))

    def digest(self, without: Iterable[bytes]) -> int:
        """The sum of the rows' digests, those of some keys left out; modulo 2^128."""
        left = np.ones(len(self), dtype=bool)
        left[[index for key in without if (index := self._index(key)) >= 0]] = False
        words = self._digests[left].sum(axis=0, dtype=np.uint64)
        return sum(int(word) << 32 * (3 - place) for place, word in enumerate(words)) % DIGEST_MODULUS

    def boundary(self, rank: int) -> int:
        """The next boundary of the account that is `rank`th in line, ms."""
        return self._boundaries[self._due[rank]]

    def account(self, rank: int) -> bytes:
        """Its key."""
        return self._key(self._due[rank])


def read_whole(path: Path, origin: Origin) -> WholeRows:
    """The rows of a file. Raises UnusableError, which says why, and OSError."""
    content = mapped(path)
    try:
        header: dict[str, Any] = orjson.loads(content[:HEADER_BYTES])
        crc = header.pop("crc")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableError(f"its header cannot be read ({error})") from error
    if crc != _crc(header, memoryview(content)[HEADER_BYTES:]):
        raise UnusableError("its content is not what was written")
    require_origin(header, origin)
    return WholeRows(content, header)


def write_whole(path: Path, rows: Mapping[bytes, bytes], origin: Origin, position: int) -> int:
    """Write all rows of a table, the cursor among them; returns the sum of their digests. Raises OSError.

    Not synced: after a power failure its checksum says whether it is whole, and the changelog has everything.
    """
    keys = sorted(key for key in rows if not key.startswith(RESERVED_KEYS))
    sizes = [len(key) + len(rows[key]) for key in keys]
    digests = [row_digest(key, rows[key]) for key in keys]
    boundaries = np.array([next_boundary_ms(rows[key]) for key in keys], dtype=np.int64)
    slots = _slots(keys)
    reserved = _packed({key: rows[key] for key in rows if key.startswith(RESERVED_KEYS)})
    start = HEADER_BYTES + 8 + len(keys) * (8 + 8 + 16 + 4 + 2) + 4 * len(slots) + len(reserved)
    header: dict[str, Any] = {
        **origin.as_json(),
        "position": position,
        "rows": len(keys),
        "slots": len(slots),
        "reserved_bytes": len(reserved),
    }
    columns = [
        np.fromiter(accumulate(sizes, initial=start), dtype=np.uint64, count=len(keys) + 1).tobytes(),
        boundaries.tobytes(),
        b"".join(digest.to_bytes(DIGEST_BYTES, "big") for digest in digests),
        slots.tobytes(),
        # Stable, and the keys are in order: so of one boundary the keys are in order too.
        np.argsort(boundaries, kind="stable").astype(np.uint32).tobytes(),
        np.fromiter(map(len, keys), dtype=np.uint16, count=len(keys)).tobytes(),
        reserved,
    ]
    crc = crc32(_header_bytes(header))
    with path.open("wb") as file:
        file.seek(HEADER_BYTES)
        for piece in (*columns, *_pieces(keys, rows)):
            crc = crc32(piece, crc)
            file.write(piece)
        file.seek(0)
        file.write(orjson.dumps({**header, "crc": crc}).ljust(HEADER_BYTES))
    published = (row_digest(key, row) for key, row in rows.items() if _is_published(key))
    return (sum(digests) + sum(published)) % DIGEST_MODULUS


def require_origin(header: dict[str, Any], origin: Origin) -> None:
    """Raise UnusableError when a file is of another partition."""
    came = {name: header.get(name) for name in origin.as_json()}
    if came != origin.as_json():
        raise UnusableError(f"expected one of {origin.as_json()}, it is of {came}")


def mapped(path: Path) -> mmap.mmap:
    """A file in memory, to be read. Raises UnusableError when there is nothing in it."""
    with path.open("rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise UnusableError("it is empty") from error


def _crc(header: dict[str, Any], content: memoryview) -> int:
    return crc32(content, crc32(_header_bytes(header)))


def _header_bytes(header: dict[str, Any]) -> bytes:
    return orjson.dumps(header, option=orjson.OPT_SORT_KEYS)


def _is_published(key: bytes) -> bool:
    return key.startswith(RESERVED_KEYS) and key != CURSOR_KEY


def _slots(keys: Sequence[bytes]) -> NDArray[np.uint32]:
    """Where the row of a key is looked for: open addressing from the CRC of the key."""
    size = 1 << (SLOTS_A_ROW * len(keys)).bit_length()
    slots, mask = [EMPTY] * size, size - 1
    for index, key in enumerate(keys):
        slot = crc32(key) & mask
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = index
    return np.array(slots, dtype=np.uint32)


def _pieces(keys: Sequence[bytes], rows: Mapping[bytes, bytes]) -> Iterator[bytes]:
    for start in range(0, len(keys), WRITE_ROWS):
        yield b"".join([key + rows[key] for key in keys[start : start + WRITE_ROWS]])


_LENGTHS: Final = Struct("<HI")


def _packed(rows: Mapping[bytes, bytes]) -> bytes:
    return b"".join(_LENGTHS.pack(len(key), len(row)) + key + row for key, row in rows.items())


def _unpacked(packed: bytes) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    place = 0
    while place < len(packed):
        key_bytes, row_bytes = _LENGTHS.unpack_from(packed, place)
        middle = place + _LENGTHS.size + key_bytes
        place = middle + row_bytes
        rows[packed[middle - key_bytes : middle]] = packed[middle:place]
    return rows
