"""Faust's table over the memory of the held partitions, and what stands in the place of Faust's recovery.

Faust's recovery can end "complete" with most of a table missing when a second rebalance interrupts it, so it is left
nothing to do. It stays what tells Faust that a worker may read: here, once every partition is loaded.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NoReturn

from faust.stores import STORES
from faust.stores.base import SerializedStore
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP

from pipeline.stream.faust_app import StreamApp


class AccountStore(SerializedStore[bytes, bytes]):
    """The rows of the held partitions, for reading. They change when a batch is committed, and in no other way."""

    app: StreamApp  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)

    def _partitions(self) -> list[Mapping[bytes, bytes]]:
        return [each.memory.accounts for each in self.app.held.meters.values() if each.memory is not None]

    def _get(self, key: bytes) -> bytes | None:
        return next((rows[key] for rows in self._partitions() if key in rows), None)

    def _iterkeys(self) -> Iterator[bytes]:
        return chain.from_iterable(self._partitions())

    def _itervalues(self) -> Iterator[bytes]:
        return chain.from_iterable(rows.values() for rows in self._partitions())

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        return chain.from_iterable(rows.items() for rows in self._partitions())

    def _size(self) -> int:
        return sum(map(len, self._partitions()))

    def _contains(self, key: bytes) -> bool:
        return any(key in rows for rows in self._partitions())

    def _set(self, key: bytes, value: bytes | None) -> NoReturn:
        del value
        raise TypeError(f"expected accounts to change by committed batches only, got a write to {key!r}")

    def _del(self, key: bytes) -> NoReturn:
        raise TypeError(f"expected accounts to change by committed batches only, got a removal of {key!r}")

    def _clear(self) -> NoReturn:
        raise TypeError("expected accounts to change by committed batches only, got a removal of all")

    def reset_state(self) -> None:
        """There is nothing on disk."""

    async def backup_partition(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing on disk."""

    def restore_backup(self, *args: Any, **kwargs: Any) -> None:
        """There is nothing on disk."""

    def persisted_offset(self, tp: TP) -> None:
        """Asked by Faust's recovery, which has nothing to read."""
        del tp


class Loading(Recovery):
    """Waits for the assignment to be loaded, outside the rebalance callback, while all partitions are paused."""

    app: StreamApp  # pyright: ignore[reportIncompatibleVariableOverride]  (set once)

    def need_recovery(self) -> bool:
        """Never: `pipeline.stream.loading` reads the changelog."""
        return False

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Let Faust seek and resume once the rows are here. A rebalance meanwhile cancels this."""
        await self.app.held.loaded()
        await super().on_recovery_completed(generation_id)

    async def _build_highwaters(self, *args: Any, **kwargs: Any) -> None:
        """Needed by nothing."""

    async def _build_offsets(self, *args: Any, **kwargs: Any) -> None:
        """Needed by nothing."""

    async def _seek_offsets(self, *args: Any, **kwargs: Any) -> None:
        """The changelog is not read through Faust."""


class Tables(TableManager):
    """Faust's table manager with our loading."""

    async def on_start(self) -> None:
        """Start at once: Faust waits a second here for tables that other modules define late."""
        await self._update_channels()
        await self.recovery.start()

    @property
    def recovery(self) -> Recovery:
        """The one of this worker."""
        if self._recovery is None:
            self._recovery = Loading(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


STORES.aliases["accounts"] = f"{__name__}:AccountStore"
