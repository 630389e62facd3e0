"""Records as aiokafka 0.14.0 decodes them, but for two things.

They are handed on as they were decoded (`LeanRecords`).

A header's name may be any bytes. aiokafka decodes names as UTF-8 and raises where they are not. A broker takes them, so
whoever may write to the input could stop a partition for good with one record. Here such a batch is decoded once more,
by aiokafka's own Python code, and a record with such a name has no headers: as all who read the log with librdkafka see
it (`kafka.headers_of`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from struct import Struct
from typing import Any, Final, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

_LENGTH: Final = Struct(">qi")
"""Each batch begins with its base offset and the number of bytes that follow."""
MAGIC_BYTE: Final = 16
HEADERS_SINCE: Final = 2
"""Older formats have no headers."""
_NO_TEXT: Final = re.compile("[\udc80-\udcff]")
"""How Python writes bytes that are no UTF-8."""


def read_records_so() -> None:
    """Let every consumer of this process do so."""
    fetcher.MemoryRecords = AnyRecords
    fetcher.PartitionRecords = LeanRecords


class LeanRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """In the place of `PartitionRecords`, which makes a `ConsumerRecord` with topic, partition and sizes of each
    record: half of what its reading costs, and nobody here asks for them."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:  # noqa: ANN401  (as aiokafka decoded it)
        del tp
        return record


class AnyRecords:
    """In the place of `MemoryRecords`: what one fetch brought of one partition."""

    def __init__(self, fetched: bytes) -> None:
        self._fetched = memoryview(fetched)
        self._records: Any = MemoryRecords(fetched)
        self._at = 0

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def next_batch(self) -> Any:  # noqa: ANN401  (aiokafka's batch, or one of ours)
        batch = self._records.next_batch()
        begun = self._at
        self._at += _LENGTH.size + _LENGTH.unpack_from(self._fetched, begun)[1]
        if self._fetched[begun + MAGIC_BYTE] < HEADERS_SINCE:
            return batch
        return AnyBatch(batch, self._fetched[begun : self._at])


class AnyBatch:
    """One batch: aiokafka's quick one, as long as that can read it."""

    def __init__(self, batch: Any, encoded: memoryview) -> None:  # noqa: ANN401
        self._batch = batch
        self._encoded = encoded
        self.validate_crc = batch.validate_crc
        self.base_offset, self.next_offset = batch.base_offset, batch.next_offset
        self.producer_id = batch.producer_id
        self.is_control_batch, self.is_transactional = batch.is_control_batch, batch.is_transactional

    def __next__(self) -> Any:  # noqa: ANN401
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except (UnicodeDecodeError, CorruptRecordException):
            # The Python code says CorruptRecord for both; what is corrupt is so again.
            return iter(
                [
                    record if _has_names(record.headers) else replace(record, headers=[])
                    for record in _TolerantBatch(self._encoded)
                ]
            )


def _has_names(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    return not any(_NO_TEXT.search(name) for name, _ in headers)


_Batch: Any = default_records._DefaultRecordBatchPy  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class _TolerantBatch(_Batch):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: Any = _Bytes(self._buffer)


class _Bytes(bytearray):
    """Pieces of it become text whatever they are."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:  # noqa: ANN401
        found = super().__getitem__(at)
        return _Bytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "") -> str:
        del errors
        return super().decode(encoding, "surrogateescape")
