"""Which accounts of a partition time alone will change next: a heap, so that nobody scans a million accounts."""

import heapq
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from pipeline.domain.grants import NEVER

STALE_SHARE_MAX: Final = 2
"""The heap is built anew when it holds this many times the entries that count."""
STALE_ENTRIES_MIN: Final = 1000


class Line(Protocol):
    """Accounts as they stood in a file when a partition was loaded, in (boundary, key) order."""

    due_accounts: int
    """How many have a boundary; the others are not asked for."""

    def boundary(self, rank: int, /) -> int:
        """Of the account at this place in line."""
        ...

    def account(self, rank: int, /) -> bytes:
        """Its key."""
        ...


class Boundaries:
    """The next boundary of every account that has one. An entry that was overtaken stays in the heap until met.

    With a `line` only accounts that have changed since it was drawn up are in the heap, and count there alone.
    """

    def __init__(self, boundaries: Iterable[tuple[bytes, int]] = (), line: Line | None = None) -> None:
        self._line = line
        self._first = 0
        """Whom to look at first; all before have changed since."""
        self._next = {key: boundary for key, boundary in boundaries if boundary < NEVER or line is not None}
        self._heap = self._entries()

    def update(self, boundaries: Mapping[bytes, int]) -> None:
        """Accounts changed: these are their next boundaries now."""
        for key, boundary in boundaries.items():
            if self._next.get(key) == boundary:
                continue
            if boundary < NEVER:
                heapq.heappush(self._heap, (boundary, key))
            elif self._line is None:
                self._next.pop(key, None)
                continue
            self._next[key] = boundary
        if len(self._heap) > STALE_SHARE_MAX * len(self._next) + STALE_ENTRIES_MIN:
            self._heap = self._entries()

    def due(self, clock_ms: int, limit: int) -> list[bytes]:
        """Accounts whose boundary has come, in (boundary, key) order. Changes nothing that can be seen."""
        met: list[tuple[int, bytes]] = []
        while self._heap and self._heap[0][0] <= clock_ms and len(met) < limit:
            entry = heapq.heappop(self._heap)
            boundary, key = entry
            if self._next.get(key) == boundary and (not met or met[-1] != entry):
                met.append(entry)
        for entry in met:
            heapq.heappush(self._heap, entry)
        waiting = self._in_line(clock_ms, limit)
        return [key for _, key in (sorted(met + waiting)[:limit] if waiting else met)]

    def _in_line(self, clock_ms: int, limit: int) -> list[tuple[int, bytes]]:
        line, rank = self._line, self._first
        met: list[tuple[int, bytes]] = []
        while line is not None and rank < line.due_accounts and len(met) < limit:
            boundary = line.boundary(rank)
            if boundary > clock_ms:
                break
            key = line.account(rank)
            rank += 1
            if key not in self._next:
                met.append((boundary, key))
            elif not met:
                self._first = rank
        return met

    def _entries(self) -> list[tuple[int, bytes]]:
        heap = [(boundary, key) for key, boundary in self._next.items() if boundary < NEVER]
        heapq.heapify(heap)
        return heap
