"""A snapshot of one partition's account table: the changelog's newest rows, byte for byte, and the cursor with them.

A file is gzip: one line of JSON that says what it is, then for each row the lengths of key and value (4 bytes each, big
endian) and both. The cursor has the digest of the rows, which is checked when it is written and when it is read.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import IO, Any, Final, cast

import orjson

from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from pipeline.state import CURSOR_KEY, DIGEST_MODULUS, Cursor, decode_cursor, encode_cursor, row_digest
from schemas.topics import changelog

FORMAT: Final = 1
_LENGTHS: Final = Struct(">II")


class SnapshotError(Exception):
    """A snapshot, or the table it is to be made of, is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    partition: int
    cursor: Cursor
    rows: dict[bytes, bytes]
    """Accounts and published content by their keys, without the cursor."""


def snapshot_file(directory: Path, partition: int) -> Path:
    return directory / f"accounts-{partition}.gz"


def take_snapshot(log: Log, settings: Settings, partition: int) -> Snapshot | None:
    """The table after its last committed batch; None where no batch ever was. Raises SnapshotError."""
    rows: dict[bytes, bytes] = {}
    for message in log.messages(changelog(settings.worker.app_id), partition):
        key, value = message.key() or b"", message.value()
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
    cursor = rows.pop(CURSOR_KEY, None)
    if cursor is None:
        return None
    return _verified(Snapshot(partition=partition, cursor=decode_cursor(cursor), rows=rows), "the changelog")


def write_snapshot(snapshot: Snapshot, file: Path) -> None:
    head = {"format": FORMAT, "partition": snapshot.partition, "rows": len(snapshot.rows) + 1}
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(orjson.dumps(head) + b"\n")
        for key, value in (*snapshot.rows.items(), (CURSOR_KEY, encode_cursor(snapshot.cursor))):
            out.write(_LENGTHS.pack(len(key), len(value)) + key + value)


def read_snapshot(file: Path) -> Snapshot:
    """Raises SnapshotError when anything of it is missing or altered."""
    try:
        with gzip.open(file, "rb") as source:
            head: dict[str, Any] = orjson.loads(source.readline())
            if head["format"] != FORMAT:
                raise SnapshotError(f"expected format {FORMAT} of {file}, got {head['format']!r}")
            rows = dict(_rows(cast("IO[bytes]", source), head["rows"]))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise SnapshotError(f"expected a whole snapshot in {file}, got {error!r}") from error
    cursor = decode_cursor(rows.pop(CURSOR_KEY))
    return _verified(Snapshot(partition=head["partition"], cursor=cursor, rows=rows), str(file))


def _rows(source: IO[bytes], count: int) -> Iterator[tuple[bytes, bytes]]:
    for _ in range(count):
        key_length, value_length = _LENGTHS.unpack(_exactly(source, _LENGTHS.size))
        yield _exactly(source, key_length), _exactly(source, value_length)


def _exactly(source: IO[bytes], size: int) -> bytes:
    found = source.read(size)
    if len(found) != size:
        raise EOFError(f"expected {size} more bytes, got {len(found)}")
    return found


def digest_of(rows: dict[bytes, bytes]) -> int:
    return sum(row_digest(key, row) for key, row in rows.items()) % DIGEST_MODULUS


def _verified(snapshot: Snapshot, where: str) -> Snapshot:
    found = digest_of(snapshot.rows)
    if found != snapshot.cursor.digest:
        raise SnapshotError(
            f"expected rows with digest {snapshot.cursor.digest:032x} in {where}, partition {snapshot.partition}, "
            f"got {len(snapshot.rows)} rows with {found:032x}"
        )
    return snapshot
