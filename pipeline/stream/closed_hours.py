"""Identities of hours that have passed: sorted, immutable, in files that spare the next start most of its reading.

A file is a copy of what stands in `metering.identities.v1`, never more than that: it is used only when it is whole, of
this very topic and partition, and there is no gap before it. What is damaged, foreign or too old is thrown away, and
read from the topic. A disk that is full or read-only costs memory, and is said.
"""

import logging
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from pipeline.crash_points import Phase, reached
from pipeline.state import IDENTITY_BYTES, IDENTITY_KEY_BYTES
from schemas.topics import HOUR_MS

FILE_VERSION: Final = 2
"""1 did not say how long an hour is."""
HEADER_BYTES: Final = 4096
"""A page: what follows is mapped."""
PREFIX_BYTES: Final = 8
_NAME: Final = "{hour}.identities"

_LOG: Final = logging.getLogger(__name__)


class ClosedHour:
    """The identities of one hour, by binary search over the first 8 bytes of their hashes."""

    def __init__(self, hour: int, packed: bytes | mmap.mmap, *, start: int = 0) -> None:
        """`packed` is sorted by prefix, and begins after `start` bytes."""
        self.hour = hour
        self._packed = packed
        self._start = start
        self.prefixes = _prefixes(_records(memoryview(packed)[start:]))
        self._in_file = not isinstance(packed, bytes)

    def __len__(self) -> int:
        return len(self.prefixes)

    @property
    def memory_bytes(self) -> int:
        """What it holds beside its file."""
        return len(self) * (PREFIX_BYTES + (0 if self._in_file else IDENTITY_BYTES))

    def get(self, key: bytes, prefix: np.uint64) -> bytes | None:
        """The packed answer, the newest where a key stands twice; None where it is not of this hour."""
        index = int(self.prefixes.searchsorted(prefix, side="right")) - 1
        while index >= 0 and self.prefixes[index] == prefix:
            place = self._start + index * IDENTITY_BYTES
            if self._packed[place : place + IDENTITY_KEY_BYTES] == key:
                return self._packed[place + IDENTITY_KEY_BYTES : place + IDENTITY_BYTES]
            index -= 1
        return None


@dataclass(slots=True)
class ClosedHours:
    """The files of one partition. `directory` None: everything stays in memory."""

    directory: Path | None
    topic_id: str
    """Of the topic of identities: a recreated one makes every file foreign."""
    partition: int
    hour_ms: int = HOUR_MS
    """How long an hour is: a chaos run has short ones, since it could not wait for the clock's."""
    complete_until: int = 0
    """The first hour that is not in a file, or was not known to be empty."""

    def load(self, first: int, end: int) -> Iterator[ClosedHour]:
        """The hours from `first` up to `end`, as far as there is no gap; what cannot be used is deleted."""
        self.complete_until = first
        for path in self._paths():
            found = self._open(path, first, end)
            if found is None:
                self._delete(path)
            else:
                yield found

    def close(self, hour: int, packed: bytes) -> ClosedHour:
        """Sort the identities of an hour, and put them into a file if there is a disk."""
        records = _records(memoryview(packed))
        # Stable: of a key that stands twice the newest comes last.
        ordered = records[np.argsort(_prefixes(records), kind="stable")].tobytes()
        since, self.complete_until = self.complete_until, hour + 1
        if self.directory is not None:
            try:
                return self._write(self.directory, hour, since, ordered)
            except OSError as error:
                _LOG.warning("identities of an hour stay in memory, since the disk refuses them: %s", error)
        return ClosedHour(hour, ordered)

    def drop(self, hour: ClosedHour) -> None:
        """Delete the file of an hour that is too old."""
        if self.directory is not None:
            self._delete(self.directory / _NAME.format(hour=hour.hour))

    def _write(self, directory: Path, hour: int, since: int, ordered: bytes) -> ClosedHour:
        header: dict[str, Any] = {
            "v": FILE_VERSION,
            "topic_id": self.topic_id,
            "partition": self.partition,
            "since": since,
            "hour": hour,
            "hour_ms": self.hour_ms,
        }
        header["digest"] = _digest(header, memoryview(ordered))
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / _NAME.format(hour=hour)
        beside = path.with_suffix(".new")
        reached(Phase.WORKER_CLOSING, self.partition)
        with beside.open("wb") as file:  # Not synced: what a crash leaves of it fails its digest.
            file.write(orjson.dumps(header).ljust(HEADER_BYTES))
            file.write(ordered)
        reached(Phase.WORKER_CLOSED, self.partition)
        beside.replace(path)
        return ClosedHour(hour, _mapped(path), start=HEADER_BYTES)

    def _open(self, path: Path, first: int, end: int) -> ClosedHour | None:
        """The hour of a file; None, with a word about why, for one that cannot be used."""
        try:
            packed = _mapped(path)
            hour = self._checked(packed, end)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s is thrown away and read from the topic: %s", path.name, error)
            return None
        if hour < first:
            return None  # Too old for anybody.
        self.complete_until = hour + 1
        return ClosedHour(hour, packed, start=HEADER_BYTES)

    def _checked(self, packed: mmap.mmap, end: int) -> int:
        """The hour of a file's content. Raises ValueError, KeyError or TypeError when it is not what we wrote."""
        header: dict[str, Any] = orjson.loads(packed[:HEADER_BYTES])
        digest = header.pop("digest")
        if digest != _digest(header, memoryview(packed)[HEADER_BYTES:]):
            raise ValueError("its content is not what was written")
        of = tuple(header[name] for name in ("v", "topic_id", "partition", "hour_ms"))
        if of != (expected := (FILE_VERSION, self.topic_id, self.partition, self.hour_ms)):
            raise ValueError(f"expected version, topic, partition and length {expected}, found {of}")
        if header["since"] > self.complete_until or header["hour"] >= end:
            raise ValueError(
                f"hours are known until {self.complete_until}, it goes on from {header['since']}"
            )
        return int(header["hour"])

    def _paths(self) -> list[Path]:
        if self.directory is None or not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if path.stem.isdecimal()]
        return sorted(
            (path for path in found if path.suffix == ".identities"), key=lambda path: int(path.stem)
        )

    def _delete(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.warning("cannot delete %s: %s", path, error)


def _digest(header: dict[str, Any], content: memoryview) -> str:
    return blake2b(content, key=blake2b(orjson.dumps(header), digest_size=32).digest()).hexdigest()


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _records(packed: memoryview) -> NDArray[np.uint8]:
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, IDENTITY_BYTES)


def _prefixes(records: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(records[:, :PREFIX_BYTES]).view(">u8").ravel().astype(np.uint64)
