"""How far ClickHouse is behind the balances: the newest moment whose every change of a balance is stored.

Once a second it is noted how far each partition's balances are in memory. What ClickHouse has stored of them is asked
when somebody wants to know; the newest note that it reaches says since when it is behind.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.client.origin import now
from pipeline.gateway.balances import Views
from pipeline.gateway.store import Store
from pipeline.query import stored

NOTE_SECONDS: Final = 1.0
NOTES_MAX: Final = 3600
"""An hour: a sink that is away for longer is said to be at least so far behind."""
STALE_MS: Final = 60_000
ANSWER_MS_MAX: Final = 200
"""ClickHouse's answer is used again for so long: all open screens ask the same."""


@dataclass(frozen=True, slots=True)
class Freshness:
    as_of: int
    """Epoch milliseconds."""
    lag_ms: int

    @property
    def is_stale(self) -> bool:
        return self.lag_ms > STALE_MS


class FreshnessWatch:
    """Takes the notes. `start` once the views are complete."""

    def __init__(self, views: Views, store: Store) -> None:
        self._views = views
        self._store = store
        self._notes: deque[tuple[int, dict[int, int]]] = deque(maxlen=NOTES_MAX)
        self._answer: tuple[int, dict[int, int]] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._take_notes())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def of(self, partition: int | None) -> Freshness:
        """Of one partition, or of all. Raises `store_unavailable`."""
        at, newest = now(), self._views.newest()
        reached = await self._stored(at)
        if _reaches(reached, newest, partition):
            return Freshness(at, 0)
        for noted_at, noted in reversed(self._notes):
            if _reaches(reached, noted, partition):
                return Freshness(noted_at, at - noted_at)
        began = self._notes[0][0] if self._notes else at
        return Freshness(began, at - began)

    async def _stored(self, at: int) -> dict[int, int]:
        if self._answer is None or at - self._answer[0] > ANSWER_MS_MAX:
            self._answer = at, await self._store.ask(stored.balances_reached)
        return self._answer[1]

    async def _take_notes(self) -> None:
        while True:
            self._notes.append((now(), self._views.newest()))
            await asyncio.sleep(NOTE_SECONDS)


def _reaches(stored_to: Mapping[int, int], wanted: Mapping[int, int], partition: int | None) -> bool:
    places = wanted if partition is None else (partition,)
    return all(stored_to.get(place, -1) >= wanted.get(place, -1) for place in places)
