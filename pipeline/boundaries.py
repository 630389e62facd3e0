"""Which accounts of a partition time alone will change next: a heap, so that nobody scans a million accounts."""

import heapq
from collections.abc import Iterable, Mapping
from typing import Final

from pipeline.domain.grants import NEVER

STALE_SHARE_MAX: Final = 2
"""The heap is built anew when it holds this many times the entries that count."""
STALE_ENTRIES_MIN: Final = 1000


class Boundaries:
    """The next boundary of every account that has one. An entry that was overtaken stays in the heap until met."""

    def __init__(self, boundaries: Iterable[tuple[bytes, int]] = ()) -> None:
        self._next = {key: boundary for key, boundary in boundaries if boundary < NEVER}
        self._heap = self._entries()

    def update(self, boundaries: Mapping[bytes, int]) -> None:
        """Accounts changed: these are their next boundaries now."""
        for key, boundary in boundaries.items():
            if self._next.get(key, NEVER) == boundary:
                continue
            if boundary >= NEVER:
                del self._next[key]
            else:
                self._next[key] = boundary
                heapq.heappush(self._heap, (boundary, key))
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
        return [key for _, key in met]

    def _entries(self) -> list[tuple[int, bytes]]:
        heap = [(boundary, key) for key, boundary in self._next.items()]
        heapq.heapify(heap)
        return heap
