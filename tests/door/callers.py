"""Callers of the gateway without our client: the same request again until it is answered."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2 as httpx

from tests.gateways import CLOUD_EVENT, Deployment, event

PUBLISHERS: Final = 3
HOLDS_MAX: Final = 150
"""Far below an account's most: what is held stays held to the end."""
HOLD_SECONDS: Final = 3600
PAUSE_SECONDS: Final = 0.02


@dataclass
class Callers:
    """Publishers of events and one who places holds, all for one account, until they are stopped."""

    there: Deployment
    account: str
    answer_seconds_max: float
    """An outage is shorter."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _running: list["Future[list[str]]"] = field(default_factory=list["Future[list[str]]"])

    def start(self, pool: ThreadPoolExecutor) -> None:
        self._running = [pool.submit(self._publish, number) for number in range(PUBLISHERS)]
        self._running.append(pool.submit(self._hold))

    def stop(self) -> None:
        self._stop.set()

    def answered(self) -> tuple[set[str], set[str]]:
        """Ids of the events that were acknowledged, and of the holds that were placed. Waits for the last answer."""
        *events, holds = [each.result() for each in self._running]
        return {each for found in events for each in found}, set(holds)

    def _publish(self, caller: int) -> list[str]:
        acknowledged: list[str] = []
        with self.there.client() as client:
            while not self._stop.is_set():
                sent = event(self.account, f"{caller}-{len(acknowledged)}")
                self._answered(client, "/v1/events", sent, CLOUD_EVENT, 202)
                acknowledged.append(sent["id"])
        return acknowledged

    def _hold(self) -> list[str]:
        placed: list[str] = []
        with self.there.client() as client:
            while not self._stop.is_set() and len(placed) < HOLDS_MAX:
                name = f"h{len(placed)}"
                terms = {"hold_id": name, "credits": "1", "seconds": HOLD_SECONDS, "account_id": self.account}
                self._answered(client, "/v1/holds", terms, {"idempotency-key": name}, 201)
                placed.append(name)
        return placed

    def _answered(
        self, client: httpx.Client, path: str, body: Any, headers: Mapping[str, str], expected: int
    ) -> None:
        until = time.monotonic() + self.answer_seconds_max
        while True:
            try:
                said = client.post(path, json=body, headers=dict(headers))
            except httpx.TransportError:
                said = httpx.Response(503)
            if said.status_code == expected:
                return
            assert said.status_code >= 500, said.text
            assert time.monotonic() < until, f"{path}: no answer for {self.answer_seconds_max} s: {said.text}"
            time.sleep(PAUSE_SECONDS)
