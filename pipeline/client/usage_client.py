"""What a service publishes its usage with: `UsageClient`.

`record` returns at once and does not raise, unless the options ask for it; what becomes of the event is in its
receipt, in `stats`, and told to `on_problem`. Any thread may use one client. A forked child has a client of its own,
with the same options and an empty queue: what the parent recorded, the parent sends.
"""

import atexit
import os
import weakref
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from pydantic import ValidationError

from pipeline.client.events import encode, usage_event
from pipeline.client.gateway import Gateway
from pipeline.client.holds import Hold, Ways
from pipeline.client.options import ClientOptions
from pipeline.client.origin import new_id, now, now_text
from pipeline.client.receipts import (
    Acknowledgement,
    NotRecordedError,
    OnProblem,
    Problem,
    Receipt,
    RefusalReason,
    Stats,
    Telling,
)
from pipeline.client.sender import Sender
from pipeline.client.spool import Entry
from pipeline.client.usage import Usage
from pipeline.domain.instants import SECOND_MS, as_instant, format_instant
from pipeline.tracing import traceparent
from schemas.usage_event import USAGE_EVENT


class UsageClient:
    """Publishes usage events and asks for holds. Close it, or use it in a `with`."""

    def __init__(self, options: ClientOptions, *, on_problem: OnProblem | None = None) -> None:
        self._options = options
        self._telling = Telling(on_problem)
        self._sender = Sender(options, self._telling)
        self._gateway = Gateway(options)
        _CLIENTS.add(self)
        if options.spool_directory is not None:
            self._sender.start()

    @classmethod
    def from_env(cls, source: str, *, on_problem: OnProblem | None = None, **given: Any) -> Self:
        """With the options of `ClientOptions.from_env`; those given go before."""
        return cls(ClientOptions.from_env(source, **given), on_problem=on_problem)

    def record(
        self, account: str, usage: Usage, *, event_id: str = "", time: datetime | None = None
    ) -> Receipt:
        """Say that `account` used this, now or at `time`, under a new id or one made before.

        Raises NotRecordedError only where the options ask for it (`on_invalid`, `on_full`).
        """
        event_id = event_id or new_id()
        try:
            event = usage_event(
                usage.service,
                account=account,
                event_id=event_id,
                source=self._options.source,
                time=now_text() if time is None else format_instant(as_instant(time)),
                data=usage.data,
            )
        except (TypeError, ValueError) as error:
            return self._refused(event_id, "invalid_event", str(error))
        return self._record_event(event)

    def _record_event(self, event: dict[str, Any]) -> Receipt:
        event_id = event["id"]
        try:
            key, value = self._checked(event)
        except (ValidationError, TypeError, ValueError, RecursionError) as error:
            return self._refused(event_id, "invalid_event", _first_line(error))
        waiting: Future[Acknowledgement] = Future()
        waiting.set_running_or_notify_cancel()  # From here on it cannot be cancelled: the event is on its way.
        entry = Entry(key, value, waiting, event_id, traceparent())
        blocks = self._options.on_full == "block"
        reason = self._sender.put(entry, wait_seconds=self._options.block_seconds_max if blocks else 0)
        if reason is not None:
            return self._refused(event_id, reason, f"{self._sender.waiting} events wait already")
        self._telling.count("recorded")
        return Receipt(event_id, waiting)

    def _checked(self, event: dict[str, Any]) -> tuple[bytes, bytes]:
        USAGE_EVENT.validate_python(event)
        key, value = encode(event)
        if len(value) > self._options.event_bytes_max:
            raise ValueError(f"expected at most {self._options.event_bytes_max} bytes, got {len(value)}")
        assert key is not None, "a valid event has a subject"
        return key, value

    def _refused(self, event_id: str, reason: RefusalReason, detail: str) -> Receipt:
        self._telling.count(reason)
        self._telling.tell(Problem(reason, detail, event_id, 1))
        error = NotRecordedError(reason, event_id, detail)
        policy = self._options.on_invalid if reason == "invalid_event" else self._options.on_full
        if policy == "raise":
            raise error
        refused: Future[Acknowledgement] = Future()
        refused.set_exception(error)
        return Receipt(event_id, refused)

    def hold(
        self, account: str, usage: Usage, *, seconds: int = 900, partial: bool = False, hold_id: str = ""
    ) -> Hold:
        """Set the credits of this usage aside before the work, for so many seconds at most; see `Hold`.

        With `partial`, of a batch that does not fit so many images as do. Raises CreditsShortError,
        HoldRefusedError or GatewayAwayError.
        """
        ways = Ways(self._gateway, self._options.source, self._record_quietly, self._telling.tell)
        return Hold(ways, account, usage, hold_id or new_id()).place(seconds=seconds, partial=partial)

    def _record_quietly(self, event: dict[str, Any]) -> None:
        """Whatever the options say: the work is done, and what went wrong was told."""
        with suppress(NotRecordedError):
            self._record_event(event)

    def stats(self) -> Stats:
        """Counters, and what waits now."""
        count, spool = self._telling.counted, self._sender.spool
        oldest = spool.oldest if spool is not None else None
        return Stats(
            recorded=count("recorded"),
            published=count("published"),
            spooled=count("spooled"),
            refused=self._telling.refusals(),
            too_late=count("too_late"),
            spool_damaged=count("spool_damaged"),
            failed_tries=count("failed_tries"),
            queue_events=self._sender.waiting,
            spool_events=spool.events if spool is not None else 0,
            spool_bytes=spool.size_bytes if spool is not None else 0,
            spool_oldest_age_seconds=0 if oldest is None else max(0, now() - oldest) / SECOND_MS,
        )

    def flush(self, timeout_seconds: float) -> bool:
        """Whether everything recorded so far is acknowledged (or refused) within this time."""
        return self._sender.flush(timeout_seconds)

    def close(self, timeout_seconds: float | None = None) -> None:
        """Take no more events, and bring home what is there: Kafka within this time, else the spool."""
        timeout = self._options.close_timeout_seconds if timeout_seconds is None else timeout_seconds
        self._sender.close(timeout)
        self._gateway.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        self._telling.renew_lock()
        self._sender.renew()
        self._gateway.renew()


_CLIENTS: "weakref.WeakSet[UsageClient]" = weakref.WeakSet()


def _renew_all() -> None:
    for client in list(_CLIENTS):
        client._renew()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (the module's own hook)


def _close_all() -> None:
    for client in list(_CLIENTS):
        client.close()


os.register_at_fork(after_in_child=_renew_all)
atexit.register(_close_all)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)
