"""The identities of one partition that are still in the hot window: 16-byte hash to the first answer.

Exact: an identity is found until its hour lies wholly before the horizon, and never forgotten for want of memory.
The running hour is a dict. An hour that the clock has passed is closed: sorted, in one piece, on disk where there is
one (`closed_hours`), and dropped whole when it is old. A filter over all closed hours answers for nearly every new
identity.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.state import pack_identities, unpack_identities
from pipeline.stream.closed_hours import PREFIX_BYTES, ClosedHour, ClosedHours

OPEN_IDENTITY_BYTES: Final = 240
"""Counted for one identity in a dict. Measured over 100,000 to 1,500,000: 166 to 184 bytes, 214 while it grows."""
FILTER_BITS: Final = 32
"""Of the filter for one closed identity, two of them set: 0.4 % of new identities are looked for in vain."""
FILTER_CHUNK: Final = 100_000
"""Identities put into the filter at once: about 2 ms in which no other thread runs."""


class IdentityIndex:
    """What has been answered already. `keep_ms` is the hot window and what a producer's clock may run ahead.

    Used in one thread; `close_hours` may run in another meanwhile.
    """

    def __init__(self, closed: ClosedHours, *, keep_ms: int, clock_ms: int = 0) -> None:
        self._closed = closed
        self._keep_ms = keep_ms
        self._hour_ms = closed.hour_ms
        self._first = (clock_ms - keep_ms) // self._hour_ms
        self._hour = clock_ms // self._hour_ms
        self._open: dict[bytes, bytes] = {}
        self._passed: tuple[tuple[int, dict[bytes, bytes]], ...] = ()
        """Hours that wait for `close_hours`, ascending."""
        self._hours: tuple[ClosedHour, ...] = ()
        self._filter = _Filter(())
        self._ready: tuple[tuple[ClosedHour, ...], _Filter] | None = None
        """What `close_hours` has made, until the next batch takes it over."""

    def __len__(self) -> int:
        return len(self._open) + sum(len(each) for _, each in self._passed) + sum(map(len, self._hours))

    @property
    def memory_bytes(self) -> int:
        """What the index holds beside files, counted, not measured."""
        in_dicts = len(self._open) + sum(len(each) for _, each in self._passed)
        closed = sum(hour.memory_bytes for hour in self._hours)
        return in_dicts * OPEN_IDENTITY_BYTES + closed + self._filter.memory_bytes

    def get(self, key: bytes) -> bytes | None:
        """The packed first answer; None for an identity that is new."""
        answer = self._open.get(key)
        if answer is not None:
            return answer
        for _, passed in reversed(self._passed):
            if key in passed:
                return passed[key]
        prefix = int.from_bytes(key[:PREFIX_BYTES], "big")
        return self._get_closed(key, prefix) if self._filter.may_have(prefix) else None

    def _get_closed(self, key: bytes, prefix: int) -> bytes | None:
        wanted = np.uint64(prefix)
        found = (hour.get(key, wanted) for hour in reversed(self._hours))
        return next((answer for answer in found if answer is not None), None)

    def load(self, read: Callable[[int], Iterator[tuple[bytes, int]]]) -> Iterator[int]:
        """Fill the index from files, and from the topic what they lack. `read(since_ms)` gives its packed records
        with their clocks, in order. Yields the bytes of memory used so far, now and then."""
        hours = list(self._closed.load(self._first, self._hour))
        since = self._closed.complete_until
        records: list[bytes] = []
        reading = since
        for packed, clock_ms in read(since * self._hour_ms):
            hour = clock_ms // self._hour_ms
            if hour > reading and records:
                hours.append(self._closed.close(reading, b"".join(records)))
                records = []
                yield sum(each.memory_bytes for each in hours)
            reading = hour
            records.append(packed)
        if records and reading < self._hour:
            hours.append(self._closed.close(reading, b"".join(records)))
        else:
            self._open = dict(unpack_identities(b"".join(records)))
        self._hours = tuple(hours)
        self._filter = _Filter(self._hours)
        yield self.memory_bytes

    def add(self, identities: Mapping[bytes, bytes], *, clock_ms: int) -> None:
        """Take in a committed batch. It counts with the hour of its clock: rather too long than too short."""
        if clock_ms // self._hour_ms > self._hour:
            if self._open:
                self._passed = (*self._passed, (self._hour, self._open))
                self._open = {}
            self._hour = clock_ms // self._hour_ms
        self._open.update(identities)

    @property
    def wants_closing(self) -> bool:
        """Whether hours have passed that are still dicts, and nobody has begun with them."""
        return bool(self._passed) and self._ready is None

    def close_hours(self) -> None:
        """Bring the hours that have passed into their final form. In any one thread, while lookups go on."""
        made = tuple(self._closed.close(hour, pack_identities(passed)) for hour, passed in self._passed)
        self._ready = (made, _Filter((*self._hours, *made)))

    def forget(self, clock_ms: int) -> None:
        """Take over what `close_hours` has made, and drop hours that lie wholly before the horizon."""
        if self._ready is not None:
            made, self._filter = self._ready
            self._hours = (*self._hours, *made)
            self._passed = self._passed[len(made) :]
            self._ready = None
        first = (clock_ms - self._keep_ms) // self._hour_ms
        if self._hours and self._hours[0].hour < first:
            for hour in self._hours:
                if hour.hour < first:
                    self._closed.drop(hour)
            self._hours = tuple(hour for hour in self._hours if hour.hour >= first)


class _Filter:
    """Says of an identity that it is in no closed hour, or that it may be. Never wrongly the former."""

    def __init__(self, hours: tuple[ClosedHour, ...]) -> None:
        count = sum(map(len, hours))
        self._mask = (1 << (count * FILTER_BITS).bit_length()) - 1 if count else 7
        self._bits = bytearray((self._mask + 1) // 8)
        bits: NDArray[np.uint8] = np.frombuffer(self._bits, dtype=np.uint8)
        mask = np.uint64(self._mask)
        for hour in hours:
            for start in range(0, len(hour), FILTER_CHUNK):
                prefixes = hour.prefixes[start : start + FILTER_CHUNK]
                for place in (prefixes & mask, (prefixes >> np.uint64(32)) & mask):
                    bit = np.left_shift(1, (place & np.uint64(7)).astype(np.uint8), dtype=np.uint8)
                    np.bitwise_or.at(bits, place >> np.uint64(3), bit)

    @property
    def memory_bytes(self) -> int:
        return len(self._bits)

    def may_have(self, prefix: int) -> bool:
        bits, mask = self._bits, self._mask
        place = prefix & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = (prefix >> 32) & mask
        return bool(bits[place >> 3] >> (place & 7) & 1)
