"""A pack is bought once through every crash: real Kafka, a worker and a payment process that are killed, real HTTP."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.client.commands import command_key, signed, unsigned_command
from pipeline.client.events import usage_event
from pipeline.client.origin import now_text
from pipeline.payments.provider import Declined, HttpProvider, Paid, SimulatedProvider, UnansweredError
from pipeline.settings import PaymentSettings, Settings, child_environment
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, wait_until_held, workers, write_settings

pytestmark = pytest.mark.integration
ORDER = {"order_id": "acme:topup:1", "account_id": "acme", "order_number": 1, "credits": "100", "price": "4"}


class Provider(BaseHTTPRequestHandler):
    """Answers by the path; counts charges by their keys, as a provider must."""

    charged: ClassVar[Counter[str]] = Counter()
    tries: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        key = self.headers["Idempotency-Key"]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["order_id"] == key
        Provider.tries[key] += 1
        if self.path == "/hard" and Provider.tries[key] < 3:
            self.send_error(503)
            return
        if self.path == "/declines":
            self._answer(402, {"reason": "no\nmoney"})
            return
        Provider.charged[key] = 1
        self._answer(200, {"reference": f"pay-{key}"})

    def _answer(self, status: int, body: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Not on stderr."""


@pytest.fixture
def provider() -> Iterator[str]:
    Provider.charged, Provider.tries = Counter(), Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def payments(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with (settings.home / "payments.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "payments"], stderr=log, env=child_environment(settings)
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_http_answers_are_paid_declined_or_none(provider: str) -> None:
    def ask(path: str) -> Paid | Declined:
        return HttpProvider(f"{provider}{path}", token="secret", timeout_seconds=2).charge(ORDER)

    assert ask("/pays") == Paid("pay-acme:topup:1")
    assert ask("/declines") == Declined("nomoney")
    with pytest.raises(UnansweredError, match="status 503"):
        HttpProvider(f"{provider}/hard", token="", timeout_seconds=2).charge({**ORDER, "order_id": "other"})
    with pytest.raises(UnansweredError):
        HttpProvider("http://127.0.0.1:1/", token="", timeout_seconds=1).charge(ORDER)


def test_the_simulated_provider_answers_by_the_orders_id_alone() -> None:
    orders = [{**ORDER, "order_id": f"a:topup:{number}"} for number in range(200)]

    def ask(simulated: SimulatedProvider, order: dict[str, Any]) -> Paid | Declined | None:
        try:
            return simulated.charge(order)
        except UnansweredError:
            return None

    first, second = (SimulatedProvider(decline_percent=20, unanswered_percent=10) for _ in range(2))
    answers = [[ask(each, order) for order in orders] for each in (first, second)]
    assert answers[0] == answers[1]
    kinds = Counter(type(each).__name__ for each in answers[0])
    assert kinds["Paid"] > kinds["Declined"] > kinds["NoneType"] > 0
    again = [ask(first, order) for _ in range(2) for order in orders]
    assert all(again[len(orders) :])


def test_one_crossing_is_paid_once_when_worker_and_payment_process_are_killed(
    settings: Settings, provider: str
) -> None:
    deployment = settings.model_copy(
        update={"payments": PaymentSettings(provider="http", url=f"{provider}/hard", token=SecretStr("t"))}
    )
    ensure_topics(deployment)
    key = command_key(deployment)
    assert key is not None
    accounts = [f"a{number}" for number in range(8)]
    outcomes, feed = Outcomes(deployment.kafka), Feed(deployment.kafka)

    def order(name: str, account: str, **data: Any) -> None:
        event = unsigned_command(
            name, account=account, command_id=f"{name}-{account}", source="/tests", time=now_text(), data=data
        )
        feed.send(signed(event, key))

    def use(account: str, event_id: str, images: int) -> None:
        feed.send(
            usage_event(
                "image_analysis",
                account=account,
                event_id=event_id,
                source="/tests",
                time=now_text(),
                data={"images": images},
            )
        )

    with workers(deployment, "first") as [first]:
        write_settings(deployment)
        wait_until_held(deployment, first)
        for account in accounts:
            order("open", account, plan="starter")
            chosen = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "300"}
            order("configure", account, auto_topup=chosen)
            use(account, "crossing", 470)
        feed.flush()
        outcomes.wait_for(3 * len(accounts))
        with payments(deployment) as one:
            wait_until("the provider was asked", lambda: len(Provider.tries) >= 3, 30)
            one.kill()
            one.wait()
        first.process.kill()
        first.process.wait()
    with workers(deployment, "second") as [second]:
        write_settings(deployment)
        wait_until_held(deployment, second, seconds_max=60)
        with payments(deployment):
            wait_until("all orders are paid", lambda: len(Provider.charged) == len(accounts), 60)
            paid = wait_until("all are answered", lambda: _paid(outcomes, len(accounts)), 60)
    assert Counter(each["account_id"] for each in paid if each["outcome"] == "accepted") == dict.fromkeys(
        accounts, 1
    )
    assert {each["balance_after"] for each in paid if each["outcome"] == "accepted"} == {"130"}


def _paid(outcomes: Outcomes, count: int) -> list[dict[str, Any]] | None:
    answers = [each.body for each in outcomes.settle() if "topup_result" in each.body.get("type", "")]
    return answers if sum(each["outcome"] == "accepted" for each in answers) >= count else None
