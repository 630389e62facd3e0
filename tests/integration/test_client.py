"""The producers' client on a real broker, which goes away, hangs and comes back."""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from pipeline.admin.topics import ensure_topics
from pipeline.client import ClientOptions, NotRecordedError, Problem, UsageClient, image_analysis
from pipeline.client.spool import SUFFIX
from pipeline.kafka import TopicPartition, consumer, drain, topic_name
from pipeline.settings import KafkaSettings, Settings
from schemas.topics import ACCOUNT_EVENTS
from tests.integration.broker import Broker, own_broker
from tests.stack import wait_until

pytestmark = pytest.mark.integration
SECONDS_MAX = 30
NOBODY = KafkaSettings(bootstrap_servers="127.0.0.1:1")
"""Where no broker listens."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with own_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def cluster(broker: Broker, tmp_path: Path) -> KafkaSettings:
    """Topics of this test's own."""
    settings = broker.settings.model_copy(update={"topic_prefix": f"c{uuid4().hex[:10]}."})
    ensure_topics(Settings(home=tmp_path, kafka=settings))
    return settings


def options(kafka: KafkaSettings, spool: Path | None = None, **given: Any) -> ClientOptions:
    values = {"source": "/services/test", "kafka": kafka, "spool_directory": spool}
    return ClientOptions.model_validate({**values, **given})


def read_log(kafka: KafkaSettings, *, events: int) -> list[dict[str, Any]]:
    """Everything on the input log, partition by partition, as soon as there are so many different events."""
    topic = topic_name(kafka, ACCOUNT_EVENTS)
    reader = consumer(kafka)
    reader.assign([TopicPartition(topic, partition, 0) for partition in range(kafka.partitions)])
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        for message in drain(reader, 5000, 0.2):
            assert message.error() is None, message.error()
            found.append(orjson.loads(message.value() or b""))
        return len({each["id"] for each in found}) >= events

    wait_until(f"{events} events are on the log", is_there, SECONDS_MAX)
    reader.close()
    return found


def assert_in_order(log: list[dict[str, Any]], *, events: int) -> None:
    """First copies: each account's numbers rise by one."""
    first: dict[str, dict[str, Any]] = {}
    for each in log:
        first.setdefault(each["id"], each)
    assert len(first) == events
    numbers: dict[str, list[int]] = {}
    for each in first.values():
        numbers.setdefault(each["subject"], []).append(each["data"]["number"])
    for account, seen in numbers.items():
        assert seen == sorted(seen), f"{account} out of order"


def record(client: UsageClient, number: int, accounts: int = 7) -> "Future[Any]":
    return client.record(f"acct-{number % accounts}", image_analysis(number=number)).acknowledged


def test_events_are_published_in_order_by_murmur2_and_said_to_be(cluster: KafkaSettings) -> None:
    with UsageClient(options(cluster)) as client:
        receipts = [record(client, number) for number in range(5000)]
        assert {each.result(SECONDS_MAX) for each in receipts} == {"published"}
        assert client.flush(0)
        stats = client.stats()
    log = read_log(cluster, events=5000)
    assert_in_order(log, events=5000)
    assert len(log) == stats.recorded == stats.published == 5000
    assert (stats.queue_events, stats.spooled, stats.refused, stats.failed_tries) == (0, 0, {}, 0)


@pytest.mark.parametrize("how", ["stopped", "hanging"])
def test_an_outage_is_bridged_by_the_spool(
    broker: Broker, cluster: KafkaSettings, tmp_path: Path, how: str
) -> None:
    told: list[Problem] = []
    spool = tmp_path / "spool"
    with UsageClient(options(cluster, spool), on_problem=told.append) as client:
        assert record(client, 0).result(SECONDS_MAX) == "published"
        broker.stop() if how == "stopped" else broker.sleep()
        try:
            receipts = [record(client, number) for number in range(1, 3001)]
            assert {each.result(5) for each in receipts} == {"spooled"}
            during = client.stats()
            assert during.spool_events == 3000
            assert during.spool_bytes == sum(path.stat().st_size for path in spool.iterdir())
            wait_until("the spool grows old", lambda: client.stats().spool_oldest_age_seconds > 0.5)
        finally:
            broker.start() if how == "stopped" else broker.wake()
        receipts = [record(client, number) for number in range(3001, 4001)]
        assert {each.result(SECONDS_MAX) for each in receipts} <= {"published", "spooled"}
        wait_until("the spool is empty", lambda: client.stats().spool_events == 0, SECONDS_MAX)
        assert record(client, 4001).result(SECONDS_MAX) == "published"
    assert [problem.kind for problem in told] == ["kafka_away"]
    assert not list(spool.iterdir())
    assert_in_order(read_log(cluster, events=4002), events=4002)


def test_what_a_closed_client_spooled_its_successor_sends_with_the_same_ids_and_times(
    cluster: KafkaSettings, tmp_path: Path
) -> None:
    away = options(NOBODY, tmp_path / "spool")
    with UsageClient(away) as client:
        receipts = [record(client, number) for number in range(50)]
        assert {each.result(5) for each in receipts} == {"spooled"}
        ids = [client.record("acct-0", image_analysis(number=number)).event_id for number in range(50, 100)]
    assert client.stats().refused == {}
    before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    with UsageClient(options(cluster, tmp_path / "spool")) as heir:
        log = read_log(cluster, events=100)
        wait_until("the spool is empty", lambda: heir.stats().spool_events == 0)
        assert heir.stats().published == 100
    assert_in_order(log, events=100)
    assert {*ids} <= {each["id"] for each in log}
    assert all(each["time"] <= f"{before}.999Z" for each in log)


def test_spooled_events_that_have_got_too_old_are_sent_and_told(
    cluster: KafkaSettings, tmp_path: Path
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=73)
    with UsageClient(options(NOBODY, tmp_path / "spool")) as client:
        client.record("acct", image_analysis(), time=long_ago)
        client.record("acct", image_analysis())
    told: list[Problem] = []
    with UsageClient(options(cluster, tmp_path / "spool"), on_problem=told.append) as heir:
        read_log(cluster, events=2)
        wait_until("it is told", lambda: heir.stats().too_late == 1)
    assert [(problem.kind, problem.events) for problem in told] == [("too_late", 1)]


def test_a_full_queue_refuses_at_once_and_says_so() -> None:
    told: list[Problem] = []
    client = UsageClient(options(NOBODY, queue_events_max=10), on_problem=told.append)
    began = time.monotonic()
    receipts = [client.record("acct", image_analysis()) for _ in range(15)]
    assert time.monotonic() - began < 1
    refused = [each for each in receipts if each.acknowledged.done()]
    assert len(refused) == 5
    with pytest.raises(NotRecordedError, match="queue_full"):
        refused[0].acknowledged.result()
    client.close(0)
    assert client.stats().refused == {"queue_full": 5, "not_sent": 10}
    assert Counter(problem.kind for problem in told)["queue_full"] == 5
    with pytest.raises(NotRecordedError, match="not_sent"):
        receipts[0].acknowledged.result()
    with pytest.raises(NotRecordedError, match="closed"):
        client.record("acct", image_analysis()).acknowledged.result()


def test_a_full_queue_blocks_or_raises_where_it_is_asked_to() -> None:
    with UsageClient(options(NOBODY, queue_events_max=1, on_full="raise", close_timeout_seconds=0)) as client:
        client.record("acct", image_analysis())
        with pytest.raises(NotRecordedError, match="queue_full"):
            client.record("acct", image_analysis())
    blocking = options(
        NOBODY, queue_events_max=1, on_full="block", block_seconds_max=0.2, close_timeout_seconds=0
    )
    with UsageClient(blocking) as client:
        client.record("acct", image_analysis())
        began = time.monotonic()
        receipt = client.record("acct", image_analysis())
        assert 0.2 <= time.monotonic() - began < 2
        assert isinstance(receipt.acknowledged.exception(), NotRecordedError)


def test_a_caller_that_blocks_goes_on_as_soon_as_there_is_room(cluster: KafkaSettings) -> None:
    with UsageClient(options(cluster, queue_events_max=5, on_full="block")) as client:
        receipts = [record(client, number) for number in range(200)]
        assert {each.result(SECONDS_MAX) for each in receipts} == {"published"}
    assert_in_order(read_log(cluster, events=200), events=200)


def test_a_spool_at_its_bound_leaves_the_rest_in_memory_and_both_arrive_in_order(
    broker: Broker, cluster: KafkaSettings, tmp_path: Path
) -> None:
    told: list[Problem] = []
    given = options(cluster, tmp_path / "spool", spool_bytes_max=64_000, queue_events_max=1000)
    with UsageClient(given, on_problem=told.append) as client:
        broker.sleep()
        try:
            receipts = [record(client, number) for number in range(1000)]
            wait_until("the spool is full", lambda: any(each.kind == "spool_full" for each in told))
            stats = client.stats()
            assert 60_000 < stats.spool_bytes <= 64_000
            assert stats.spool_events + stats.queue_events == 1000
            assert sum(each.done() for each in receipts) == stats.spool_events
        finally:
            broker.wake()
        assert {each.result(SECONDS_MAX) for each in receipts} <= {"spooled", "published"}
        wait_until("the spool is empty", lambda: client.stats().spool_events == 0, SECONDS_MAX)
    assert_in_order(read_log(cluster, events=1000), events=1000)


def test_an_unwritable_spool_is_told_and_the_events_wait_in_memory(
    cluster: KafkaSettings, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("no directory")
    told: list[Problem] = []
    with UsageClient(options(cluster, tmp_path / "spool"), on_problem=told.append) as client:
        assert record(client, 0).result(SECONDS_MAX) == "published"
    assert [problem.kind for problem in told] == ["spool_unwritable"]


def test_a_damaged_spool_is_told_and_the_rest_is_sent(cluster: KafkaSettings, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with UsageClient(options(NOBODY, spool)) as client:
        for number in range(3):
            record(client, number)
    [path] = spool.glob(f"*{SUFFIX}")
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":9'))
    told: list[Problem] = []
    with UsageClient(options(cluster, spool), on_problem=told.append) as heir:
        assert [each["data"]["number"] for each in read_log(cluster, events=2)] in ([0, 2], [2, 0])
        wait_until("the spool is empty", lambda: heir.stats().spool_events == 0)
        assert heir.stats().spool_damaged == 1
    assert [problem.kind for problem in told] == ["spool_damaged"]
    assert len(list(spool.glob("*.damaged"))) == 1


def test_threads_share_a_client_and_each_keeps_its_order(cluster: KafkaSettings, tmp_path: Path) -> None:
    # On a busy machine a second without an answer is no outage: what is spooled then would wait for the next start.
    patient = options(cluster, tmp_path / "spool", queue_events_max=100_000, spool_after_ms=15_000)
    with UsageClient(patient) as client:

        def run(account: int) -> None:
            for number in range(1000):
                client.record(f"acct-{account}", image_analysis(number=number))

        threads = [threading.Thread(target=run, args=(account,)) for account in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(SECONDS_MAX)
    assert_in_order(read_log(cluster, events=8000), events=8000)


def test_a_forked_child_has_a_client_of_its_own_and_nothing_is_sent_twice(
    cluster: KafkaSettings, tmp_path: Path
) -> None:
    # On a busy machine the child's first second is no outage: what it spools would wait for the next start.
    client = UsageClient(options(cluster, tmp_path / "spool", spool_after_ms=15_000))
    assert record(client, 0).result(SECONDS_MAX) == "published"
    for number in range(1, 500):
        record(client, number)
    child = os.fork()
    if child == 0:
        try:
            assert client.stats().queue_events == 0
            receipts = [record(client, number, accounts=1) for number in range(500, 1000)]
            assert {each.result(SECONDS_MAX) for each in receipts} <= {"published", "spooled"}
            client.close()
            os._exit(0)
        finally:
            os._exit(1)
    for number in range(1000, 1500):
        record(client, number)
    assert os.waitpid(child, 0)[1] == 0
    client.close()
    log = read_log(cluster, events=1500)
    assert len(log) == 1500
    assert not list((tmp_path / "spool").iterdir())


def test_a_forked_child_that_records_nothing_ends_like_any_other(cluster: KafkaSettings) -> None:
    code = f"""
import os, sys
from pipeline.client import ClientOptions, UsageClient, image_analysis
client = UsageClient(ClientOptions.model_validate({options(cluster).model_dump(mode="json", exclude_none=True)!r}))
client.record("acct", image_analysis()).acknowledged.result(30)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_a_service_that_ends_without_closing_loses_nothing(cluster: KafkaSettings) -> None:
    code = f"""
from pipeline.client import ClientOptions, UsageClient, image_analysis
client = UsageClient(ClientOptions.model_validate({options(cluster).model_dump(mode="json", exclude_none=True)!r}))
for _ in range(100):
    client.record("acct", image_analysis())
"""
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
    assert len(read_log(cluster, events=100)) == 100
