"""The client for asyncio: the same, and whatever may wait does so in threads of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from pipeline.client.holds import Hold
from pipeline.client.options import ClientOptions
from pipeline.client.receipts import Acknowledgement, OnProblem, Receipt, Stats
from pipeline.client.usage import Usage
from pipeline.client.usage_client import UsageClient

THREADS_MAX: Final = 32
"""So many holds are asked for at one time; further ones wait for their turn."""
T = TypeVar("T")


class AsyncUsageClient:
    """`UsageClient` for one event loop. Close it, or use it in an `async with`."""

    def __init__(self, options: ClientOptions, *, on_problem: OnProblem | None = None) -> None:
        self._client = UsageClient(options, on_problem=on_problem)
        self._may_block = options.on_full == "block"
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="creditstream-holds")

    @classmethod
    def from_env(cls, source: str, *, on_problem: OnProblem | None = None, **given: Any) -> Self:
        """With the options of `ClientOptions.from_env`; those given go before."""
        return cls(ClientOptions.from_env(source, **given), on_problem=on_problem)

    async def record(
        self, account: str, usage: Usage, *, event_id: str = "", time: datetime | None = None
    ) -> Receipt:
        """As `UsageClient.record`."""
        record = partial(self._client.record, account, usage, event_id=event_id, time=time)
        return await self._elsewhere(record) if self._may_block else record()

    async def acknowledged(self, receipt: Receipt, timeout_seconds: float) -> Acknowledgement:
        """Who has the event. Raises TimeoutError, or NotRecordedError when nobody has."""
        return await asyncio.wait_for(asyncio.wrap_future(receipt.acknowledged), timeout_seconds)

    @asynccontextmanager
    async def hold(
        self,
        account: str,
        usage: Usage,
        *,
        seconds: int = 900,
        partial_batch: bool = False,
        hold_id: str = "",
    ) -> AsyncGenerator[Hold, None]:
        """As `UsageClient.hold`; call `done` of what it gives, and let the `async with` do the rest."""
        hold = await self._elsewhere(
            partial(
                self._client.hold, account, usage, seconds=seconds, partial=partial_batch, hold_id=hold_id
            )
        )
        try:
            yield hold
        except BaseException:
            await self._elsewhere(hold.give_up)
            raise
        await self._elsewhere(hold.settle)

    def stats(self) -> Stats:
        """As `UsageClient.stats`."""
        return self._client.stats()

    async def flush(self, timeout_seconds: float) -> bool:
        """As `UsageClient.flush`."""
        return await self._elsewhere(partial(self._client.flush, timeout_seconds))

    async def close(self, timeout_seconds: float | None = None) -> None:
        """As `UsageClient.close`."""
        await self._elsewhere(partial(self._client.close, timeout_seconds))
        self._threads.shutdown(wait=False)

    async def _elsewhere(self, call: Callable[[], T]) -> T:
        within = copy_context()  # The caller's trace.
        return await asyncio.get_running_loop().run_in_executor(self._threads, within.run, call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
