"""Questions to ClickHouse from asyncio: as the read-only analyst, a bounded number at a time, in threads."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from pipeline.clickhouse import ClickHouseError, Client, OperationalError, open_analyst
from pipeline.gateway.problems import ProblemError
from pipeline.settings import Settings

T = TypeVar("T")
_END: Final = object()


class Store:
    """Opens its connection with the first question, so that events and holds need no ClickHouse."""

    def __init__(self, settings: Settings) -> None:
        self._clickhouse = settings.clickhouse
        self._wait_seconds = settings.gateway.query_wait_ms / 1000
        self._pool = ThreadPoolExecutor(settings.gateway.queries_max, thread_name_prefix="query")
        self._places = asyncio.Semaphore(settings.gateway.queries_max)
        self._lock = threading.Lock()
        self._client: Client | None = None

    async def ask(self, question: Callable[[Client], T]) -> T:
        """The answer. Raises `store_unavailable`, or `busy` when too many ask."""
        async with self._place():
            return await self._run(lambda: question(self._connected()))

    async def stream(self, question: Callable[[Client], Generator[T, None, None]]) -> AsyncGenerator[T, None]:
        """What the question yields, one after the other; a slow reader holds a place."""
        async with self._place():
            found = await self._run(lambda: question(self._connected()))
            try:
                while True:
                    item: Any = await self._run(lambda: next(found, _END))
                    if item is _END:
                        return
                    yield item
            finally:
                await asyncio.shield(self._run(found.close))  # Whoever reads may be gone in the middle.

    async def is_up(self) -> bool:
        """Whether ClickHouse answers."""
        try:
            return await asyncio.wait_for(self._run(lambda: self._connected().ping()), 2)
        except (ProblemError, TimeoutError):
            return False

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None, None]:
        try:
            await asyncio.wait_for(self._places.acquire(), self._wait_seconds)
        except TimeoutError as error:
            raise ProblemError("busy", "too many questions to ClickHouse", retry_after=2) from error
        try:
            yield
        finally:
            self._places.release()

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except OperationalError as error:
            raise ProblemError("store_unavailable", "ClickHouse does not answer", retry_after=2) from error
        except ClickHouseError as error:
            raise ProblemError(
                "store_unavailable", "ClickHouse refused the question", retry_after=10
            ) from error

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = open_analyst(self._clickhouse)
            return self._client
