"""A pack is bought once through every crash: real Kafka, a worker and a payment process that are killed, real HTTP."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, ClassVar

import orjson
import pytest
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.client.commands import command_key, signed, unsigned_command
from pipeline.client.events import usage_event
from pipeline.client.origin import now_text
from pipeline.kafka import TopicPartition, consumer, drain, producer, topic_name
from pipeline.kafka_settings import KafkaSettings
from pipeline.payments.provider import (
    Declined,
    HttpProvider,
    Paid,
    PaymentProvider,
    UnansweredError,
)
from pipeline.payments.worker import provider_of, serve
from pipeline.settings import PaymentSettings, Settings
from schemas.topics import ACCOUNT_EVENTS, TOPUP_ORDERS
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, program, wait_until_held, workers, write_settings

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


def test_http_answers_are_paid_declined_or_none(provider: str) -> None:
    def ask(path: str) -> Paid | Declined:
        return HttpProvider(f"{provider}{path}", token="secret", timeout_seconds=2).charge(ORDER)

    assert ask("/pays") == Paid("pay-acme:topup:1")
    assert ask("/declines") == Declined("nomoney")
    with pytest.raises(UnansweredError, match="status 503"):
        HttpProvider(f"{provider}/hard", token="", timeout_seconds=2).charge({**ORDER, "order_id": "other"})
    with pytest.raises(UnansweredError):
        HttpProvider("http://127.0.0.1:1/", token="", timeout_seconds=1).charge(ORDER)


MANNERS = {
    f"simulated_{name}_percent": percent
    for name, percent in (("decline", 30), ("unanswered", 30), ("late", 30), ("twice", 30))
}


def test_the_simulated_provider_answers_by_its_seed_and_the_orders_id_alone() -> None:
    orders = [{**ORDER, "order_id": f"a:topup:{number}"} for number in range(200)]

    def ask(simulated: PaymentProvider, order: dict[str, Any]) -> Paid | Declined | None:
        try:
            return simulated.charge(order)
        except UnansweredError:
            return None

    first, same, other = (
        provider_of(PaymentSettings.model_validate({**MANNERS, "simulated_seed": seed})) for seed in (1, 1, 2)
    )
    answers = [[ask(each, order) for order in orders] for each in (first, same, other)]
    assert answers[0] == answers[1] != answers[2]
    kinds = Counter(type(each).__name__ for each in answers[0])
    assert kinds["NoneType"] > kinds["Declined"] > 20 < kinds["Paid"]
    came = first.late_answers()
    names = {order["order_id"] for order, _ in came}
    late = [
        each for each, said in zip(orders, answers[0], strict=True) if not said and each["order_id"] in names
    ]
    twice = [each for each in came if each[1] in answers[0]]
    assert len(late) > 20 < len(twice)
    assert first.late_answers() == []
    hard = [each for each, said in zip(orders, answers[0], strict=True) if not said and each not in late]
    assert [ask(first, each) for each in hard] == [None] * len(hard)
    assert all(ask(first, each) for each in hard)


def test_each_order_is_granted_once_whether_it_is_declined_times_out_or_is_answered_late_or_twice(
    settings: Settings,
) -> None:
    deployment = settings.model_copy(update={"payments": PaymentSettings.model_validate(MANNERS)})
    ensure_topics(deployment)
    accounts = [f"a{number}" for number in range(40)]
    outcomes, feed = Outcomes(deployment.kafka), Feed(deployment.kafka)
    with workers(deployment, "only") as [worker]:
        write_settings(deployment)
        wait_until_held(deployment, worker)
        cross(deployment, feed, accounts)
        outcomes.wait_for(3 * len(accounts))
        with program(deployment, "payments"):
            answers = wait_until("all are answered", lambda: _paid(outcomes, len(accounts)), 120)
            wait_until("some twice", lambda: _repeated(outcomes), 30)
    accepted = {each["account_id"]: each for each in answers if each["outcome"] == "accepted"}
    assert accepted.keys() == set(accounts)
    given = Counter(each["topup"]["result"] for each in accepted.values())
    assert given["succeeded"] > given["declined"] > 0
    for each in accepted.values():
        assert each["balance_after"] == ("130" if each["topup"]["result"] == "succeeded" else "30")
        assert (each["topup"]["not_before"] is None) == (each["topup"]["result"] == "succeeded")
    assert all(each["topup"] is None for each in answers if each["outcome"] != "accepted")


def _repeated(outcomes: Outcomes) -> bool:
    said = [each.body for each in outcomes.settle() if "topup_result" in each.body.get("type", "")]
    return any(each["outcome"] == "duplicate" for each in said)


def cross(deployment: Settings, feed: Feed, accounts: list[str]) -> None:
    """Each account is opened, chooses automatic top-up, and falls below its threshold."""
    key = command_key(deployment)
    assert key is not None

    def order(name: str, account: str, **data: Any) -> None:
        event = unsigned_command(
            name, account=account, command_id=f"{name}-{account}", source="/tests", time=now_text(), data=data
        )
        feed.send(signed(event, key))

    for account in accounts:
        order("open", account, plan="starter")
        chosen = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "300"}
        order("configure", account, auto_topup=chosen)
        done = {"account": account, "event_id": "crossing", "source": "/tests", "time": now_text()}
        feed.send(usage_event("image_analysis", data={"images": 470}, **done))
    feed.flush()


def test_one_crossing_is_paid_once_when_worker_and_payment_process_are_killed(
    settings: Settings, provider: str
) -> None:
    deployment = settings.model_copy(
        update={"payments": PaymentSettings(provider="http", url=f"{provider}/hard", token=SecretStr("t"))}
    )
    ensure_topics(deployment)
    accounts = [f"a{number}" for number in range(8)]
    outcomes, feed = Outcomes(deployment.kafka), Feed(deployment.kafka)
    with workers(deployment, "first") as [first]:
        write_settings(deployment)
        wait_until_held(deployment, first)
        cross(deployment, feed, accounts)
        outcomes.wait_for(3 * len(accounts))
        with program(deployment, "payments") as one:
            wait_until("the provider was asked", lambda: len(Provider.tries) >= 3, 30)
            one.kill()
            one.wait()
        first.process.kill()
        first.process.wait()
    with workers(deployment, "second") as [second]:
        write_settings(deployment)
        wait_until_held(deployment, second, seconds_max=60)
        with program(deployment, "payments"):
            wait_until("all orders are paid", lambda: len(Provider.charged) == len(accounts), 60)
            paid = wait_until("all are answered", lambda: _paid(outcomes, len(accounts)), 60)
    assert Counter(each["account_id"] for each in paid if each["outcome"] == "accepted") == dict.fromkeys(
        accounts, 1
    )
    assert {each["balance_after"] for each in paid if each["outcome"] == "accepted"} == {"130"}


def _paid(outcomes: Outcomes, count: int) -> list[dict[str, Any]] | None:
    answers = [each.body for each in outcomes.settle() if "topup_result" in each.body.get("type", "")]
    return answers if sum(each["outcome"] == "accepted" for each in answers) >= count else None


class SlowProvider:
    """Needs `seconds` for each answer, and does not answer the first try of any order."""

    def __init__(self, seconds: float = 0) -> None:
        self.tries: Counter[str] = Counter()
        self._seconds = seconds

    def charge(self, order: Mapping[str, Any]) -> Paid | Declined:
        self.tries[order["order_id"]] += 1
        time.sleep(self._seconds)
        if not self._seconds and self.tries[order["order_id"]] == 1:
            raise UnansweredError("busy")
        return Paid("")

    def late_answers(self) -> Sequence[tuple[Mapping[str, Any], Paid | Declined]]:
        return ()


def answered_orders(settings: Settings, provider: PaymentProvider, count: int) -> Counter[str]:
    """Orders on the topic in, names of the answers in the log out, when every order has one; none but ours runs."""
    ensure_topics(settings)
    feed = producer(settings.kafka)
    for number in range(1, count + 1):
        name = f"a{number}"
        body = {**ORDER, "order_id": f"{name}:topup:1", "account_id": name}
        feed.produce(topic_name(settings.kafka, TOPUP_ORDERS), orjson.dumps(body), name.encode(), partition=0)
    assert feed.flush(30) == 0
    stop = Event()
    with ThreadPoolExecutor(1) as threads, closing(InputLog(settings.kafka)) as log:
        serving = threads.submit(serve, settings, provider, stop)
        try:
            wait_until("all orders are answered", lambda: serving.done() or len(log.names()) == count, 60)
        finally:
            stop.set()
        serving.result(30)
        return Counter(log.names())


class InputLog:
    """Ids of the commands in the input log."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._names: Counter[str] = Counter()
        self._reader = consumer(kafka)
        topic = topic_name(kafka, ACCOUNT_EVENTS)
        partitions = self._reader.list_topics(topic, 30).topics[topic].partitions
        self._reader.assign([TopicPartition(topic, each, 0) for each in partitions])

    def names(self) -> Counter[str]:
        messages = drain(self._reader, 1000, 0.2)
        self._names.update(orjson.loads(each.value() or b"")["id"] for each in messages)
        return self._names

    def close(self) -> None:
        self._reader.close()


def test_no_order_is_passed_over_while_as_many_wait_as_may(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.payments.worker.BACK_OFF_SECONDS_MIN", 0.1)
    monkeypatch.setattr("pipeline.payments.worker.POLL_SECONDS", 0.05)
    narrow = settings.model_copy(update={"payments": PaymentSettings(orders_waiting_max=2)})
    answers = answered_orders(narrow, SlowProvider(), 12)
    assert answers == {f"a{number}:topup:1:succeeded": 1 for number in range(1, 13)}


def test_a_slow_provider_does_not_cost_the_process_its_partitions(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.payments.worker.ASK_SECONDS_MAX", 1)
    monkeypatch.setattr("pipeline.payments.worker.SESSION_TIMEOUT_MS", 3000)
    options = {
        **settings.kafka.client_options,
        "max.poll.interval.ms": 3000,
        "session.timeout.ms": 3000,
        "heartbeat.interval.ms": 200,  # librdkafka's is as long as this session.
    }
    kafka = settings.kafka.model_copy(update={"client_options": options})
    provider = SlowProvider(0.4)
    answers = answered_orders(settings.model_copy(update={"kafka": kafka}), provider, 12)
    assert set(answers.values()) == set(provider.tries.values()) == {1}
