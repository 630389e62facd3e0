"""Gateways that are killed under load: what was acknowledged is charged once, whatever was sent how often."""

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import httpx2 as httpx
import pytest

from pipeline.settings import Settings
from tests.gateways import CLOUD_EVENT, Deployment, deployed, event
from tests.stack import wait_until

pytestmark = pytest.mark.integration

KILLS: Final = int(os.environ.get("CREDITSTREAM_GATEWAY_KILLS", "3"))
CALLERS: Final = 4
ANSWER_SECONDS_MAX: Final = 60


@pytest.mark.parametrize("seed", [7])
def test_a_killed_gateway_loses_nothing_it_acknowledged_and_charges_nothing_twice(
    settings: Settings, seed: int
) -> None:
    with deployed(settings) as there:
        account = there.open("steady", "free", credits="100000")
        load = Load(there, account)
        with ThreadPoolExecutor(CALLERS) as pool:
            running = [pool.submit(load.publish, caller) for caller in range(CALLERS - 1)]
            running.append(pool.submit(load.hold))
            kill_at_random(there, random.Random(seed))
            load.stop.set()
            sent = [each.result() for each in running]
        events, holds = sum(sent[:-1]), sent[-1]
        assert events > 50
        assert holds > 5
        with there.client() as client:

            def settled() -> dict[str, Any] | None:
                totals = client.get(f"/v1/accounts/{account}/usage/totals").json()["totals"]
                return totals[0] if totals and totals[0]["metered"] >= events else None

            balance = client.get(f"/v1/accounts/{account}/balance").json()
            assert (balance["period_used"], balance["held"], len(balance["holds"])) == (
                str(events),
                str(holds),
                holds,
            )
            assert wait_until("every record is stored", settled)["credits"] == str(events)


def kill_at_random(there: Deployment, moments: random.Random) -> None:
    for _ in range(KILLS):
        time.sleep(moments.uniform(0.3, 1.5))
        process = there.processes["gateway"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        there.start_gateway("gateway")
    time.sleep(0.5)


class Load:
    """Callers that send the same request again until they have its answer."""

    def __init__(self, there: Deployment, account: str) -> None:
        self._there = there
        self._account = account
        self.stop = threading.Event()

    def publish(self, caller: int) -> int:
        """Events until told to stop; how many were acknowledged."""
        number = 0
        with self._there.client() as client:
            while not self.stop.is_set():
                sent = event(self._account, f"{caller}-{number}")
                self._answered(client, "/v1/events", sent, CLOUD_EVENT, 202)
                number += 1
        return number

    def hold(self) -> int:
        """Holds of a credit each; how many were placed."""
        number = 0
        with self._there.client() as client:
            while not self.stop.is_set() and number < 150:
                asked = {
                    "account_id": self._account,
                    "hold_id": f"h{number}",
                    "credits": "1",
                    "seconds": 3600,
                }
                same = {"idempotency-key": f"place-{number}"}
                self._answered(client, "/v1/holds", asked, same, 201)
                number += 1
        return number

    def _answered(
        self, client: httpx.Client, path: str, body: Any, headers: dict[str, str], expected: int
    ) -> None:
        until = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            try:
                said = client.post(path, json=body, headers=headers)
            except httpx.TransportError:
                said = httpx.Response(503)
            if said.status_code == expected:
                return
            assert said.status_code >= 500, said.text
            assert time.monotonic() < until, said.text
            time.sleep(0.02)
