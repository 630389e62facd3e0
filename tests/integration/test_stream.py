"""The worker as a process on a real broker: what it must survive, and what it must refuse."""

import asyncio
import threading
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.producer import producer as aiokafka_producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from pipeline.admin.topics import ensure_topics
from pipeline.domain.usage import AccountId
from pipeline.kafka import NewTopic, TopicPartition, admin, producer, topic_name
from pipeline.reconcile.inputs import COMMAND, EVENT, kind_of
from pipeline.reconcile.topics import Log
from pipeline.settings import KafkaSettings, Settings, WorkerSettings
from pipeline.state import decode_account
from schemas.topics import ACCOUNT_EVENTS, METERED_RECORDS, changelog
from tests import stream_workers
from tests.builders import issue_grant, open_account, usage
from tests.raw_names import Raw
from tests.stack import START_SECONDS_MAX, wait_until
from tests.stream_workers import (
    QUICK,
    Feed,
    Outcomes,
    Said,
    Worker,
    assert_each_offset_once,
    read_table,
    streaming,
    wait_until_held,
    workers,
)

pytestmark = pytest.mark.integration

TOPICS_UNKNOWN_AT_FIRST = """
import time
from aiokafka.cluster import ClusterMetadata
begun, known = time.monotonic(), ClusterMetadata.partitions_for_topic
ClusterMetadata.partitions_for_topic = (
    lambda self, topic: known(self, topic) if time.monotonic() > begun + 6 else None
)
"""
"""As a broker answers that has only just come back."""

CREDITS_GRANTED = 1_000_000
MICROS = 1_000_000


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    """As many partitions as there are by default, for workers to share."""
    worker = WorkerSettings(dead_letter_window_records=500, **QUICK)
    return streaming(kafka, tmp_path, partitions=4, worker=worker)


@pytest.fixture
def feed(deployment: Settings) -> Feed:
    return Feed(deployment.kafka)


@pytest.fixture
def outcomes(deployment: Settings) -> Outcomes:
    return Outcomes(deployment.kafka)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def open_accounts(feed: Feed, count: int) -> list[str]:
    """Accounts with credits enough for any test."""
    names = [f"acct-{number}" for number in range(count)]
    for name in names:
        feed.send(open_account("pro", account=name, at=now_ms()))
        grant = issue_grant(str(CREDITS_GRANTED), grant_id=f"pack-{name}", account=name, at=now_ms())
        feed.send(grant)
    feed.flush()
    return names


def spend(feed: Feed, accounts: list[str], count: int, *, named: str = "e") -> None:
    for number in range(count):
        feed.send(usage(account=accounts[number % len(accounts)], event_id=f"{named}{number}", at=now_ms()))
    feed.flush()


def assert_table_agrees(settings: Settings, said: list[Said], accounts: list[str]) -> None:
    """Each account's credits are what was granted, less what was metered: neither lost nor doubled."""
    spent = dict.fromkeys(accounts, Decimal(0))
    for each in said:
        if each.body.get("outcome") == "metered":
            spent[each.body["account_id"]] += Decimal(each.body["credits"])
    rows = read_table(settings)
    for name in accounts:
        account = decode_account(AccountId(name), rows[name.encode()])
        granted = sum(grant.credits for grant in account.grants)
        assert Decimal(granted - account.posted) / MICROS == spent[name], name


def test_a_header_whose_name_is_no_text_stops_no_partition(
    deployment: Settings, feed: Feed, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = open_accounts(feed, 1)
    event = usage(account=accounts[0], event_id="odd", at=now_ms())
    asyncio.run(send_with_header(deployment, event, Raw(b"\xff\xfe"), monkeypatch))
    spend(feed, accounts, 3)
    with workers(deployment, "a"):
        outcomes.wait_for(feed.sent + 1)
    said = outcomes.settle()
    assert_each_offset_once(said, feed.sent + 1)
    assert [each.body["outcome"] for each in said if each.topic.endswith(METERED_RECORDS)] == ["metered"] * 4
    for _ in range(50):  # Python calls differently what it has called often.
        assert sorted(kinds(deployment)) == [EVENT] * 4 + [COMMAND] * 2, "reconcile can read it too"


async def send_with_header(
    settings: Settings, event: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a client could that writes its own bytes; aiokafka's quick encoder takes text only."""
    monkeypatch.setattr(message_accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    monkeypatch.setattr(aiokafka_producer, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    sender = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
    await sender.start()
    try:
        topic, key = topic_name(settings.kafka, ACCOUNT_EVENTS), event["subject"].encode()
        await sender.send_and_wait(topic, orjson.dumps(event), key, headers=[(name, b"value")])
    finally:
        await sender.stop()


def kinds(settings: Settings) -> list[int]:
    with closing(Log(settings.kafka)) as log:
        partitions = range(settings.kafka.partitions)
        return [
            kind_of(each) for place in partitions for each in log.messages(ACCOUNT_EVENTS, place, start=0)
        ]


def test_two_workers_share_the_partitions_and_a_kill_loses_and_doubles_nothing(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    accounts = open_accounts(feed, 40)
    with workers(deployment, "a", "b") as (a, b):
        wait_until_held(deployment, a, b)
        flood = threading.Thread(target=spend, args=(feed, accounts, 12_000))
        flood.start()
        outcomes.wait_for(500)
        a.send(SIGKILL)
        flood.join()
        outcomes.wait_for(feed.sent)
        # All may have been answered before the kill; `b` hears of that when the session ends.
        wait_until_held(deployment, b)
    said = outcomes.settle()
    assert_each_offset_once(said, feed.sent)
    assert_table_agrees(deployment, said, accounts)


def test_a_restarted_worker_goes_on_from_the_cursor_and_still_knows_what_it_has_answered(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    accounts = open_accounts(feed, 8)
    first = usage(account=accounts[0], event_id="first", at=now_ms())
    feed.send(first)
    feed.flush()
    with workers(deployment, "a") as (a,):
        outcomes.wait_for(feed.sent)
        a.send(SIGTERM)
        assert a.wait_for_end() == 0, a.log
    feed.send(first)
    spend(feed, accounts, 50)
    with workers(deployment, "b") as (b,):
        said = outcomes.wait_for(feed.sent)
        assert "8 accounts" in b.log
    assert_each_offset_once(outcomes.settle(), feed.sent)
    again = [each.body["outcome"] for each in said if each.body.get("event_id") == "first"]
    assert again == ["metered", "duplicate"]
    assert_table_agrees(deployment, said, accounts)


def test_a_broker_that_knows_no_topics_at_first_is_asked_again_soon(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_workers, "RUN", TOPICS_UNKNOWN_AT_FIRST + stream_workers.RUN)
    with workers(deployment, "only") as [only]:
        wait_until(
            "the worker is given nothing", lambda: "takes over partitions []" in only.log, START_SECONDS_MAX
        )
        wait_until_held(deployment, only)


def test_a_stopping_worker_hands_over_before_its_session_would_run_out(deployment: Settings) -> None:
    patient = deployment.worker.model_copy(update={"session_timeout_ms": 20_000})
    deployment = deployment.model_copy(update={"worker": patient})
    with workers(deployment, "a", "b") as (a, b):
        wait_until_held(deployment, a, b)
        a.send(SIGTERM)
        session_seconds = deployment.worker.session_timeout_ms / 1000
        wait_until_held(deployment, b, seconds_max=session_seconds - 1)
        assert a.wait_for_end() == 0, a.log


def test_no_event_is_passed_over_that_comes_while_partitions_change_hands(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    """A poll of the generation before may still wait for records when the positions of this one are sought."""
    accounts = open_accounts(feed, 16)
    with workers(deployment, "stays") as running:
        (stays,) = running
        for number in range(5):
            running.append(Worker(deployment, f"comes-and-goes-{number}"))
            wait_until_held(deployment, stays, running[-1])
            time.sleep(
                number / 10
            )  # After the positions were sought, while the poll from before still waits.
            spend(feed, accounts, 32, named=f"{number}-")
            outcomes.wait_for(feed.sent)
            running[-1].send(SIGTERM)
            assert running[-1].wait_for_end() == 0, running[-1].log
    assert_each_offset_once(outcomes.settle(), feed.sent)
    assert_table_agrees(deployment, outcomes.said, accounts)


def test_a_worker_that_slept_through_its_session_writes_nothing_when_it_wakes(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    accounts = open_accounts(feed, 20)
    with workers(deployment, "sleeper", "heir") as (sleeper, heir):
        wait_until_held(deployment, sleeper, heir)
        flood = threading.Thread(target=spend, args=(feed, accounts, 8_000))
        flood.start()
        outcomes.wait_for(200)
        sleeper.send(SIGSTOP)
        flood.join()
        wait_until_held(deployment, heir)
        outcomes.wait_for(feed.sent)
        sleeper.send(SIGCONT)
        wait_until(
            "the sleeper is back in the group or has ended",
            lambda: sleeper.process.poll() is not None or "holds" in sleeper.log.split("holds", 1)[1],
        )
        spend(feed, accounts, 500, named="after")
        outcomes.wait_for(feed.sent)
    said = outcomes.settle()
    assert_each_offset_once(said, feed.sent)
    assert_table_agrees(deployment, said, accounts)


def test_a_forged_changelog_row_stops_the_worker(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    run_once(deployment, feed, outcomes)
    key, row = next(iter(read_table(deployment).items()))
    forger = producer(deployment.kafka)
    topic = topic_name(deployment.kafka, changelog(deployment.worker.app_id))
    forger.produce(topic, row.replace(b"1000000000000", b"1000000000001"), key)
    forger.flush()
    assert_refuses(deployment, "digest")


def test_a_recreated_input_topic_stops_the_worker(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    run_once(deployment, feed, outcomes)
    client, topic = admin(deployment.kafka), topic_name(deployment.kafka, ACCOUNT_EVENTS)
    client.delete_topics([topic])[topic].result(30)
    wait_until("the topic is gone", lambda: topic not in client.list_topics(timeout=10).topics)
    ensure_topics(deployment)
    assert_refuses(deployment, "it was recreated")


def test_events_deleted_before_they_were_metered_stop_the_worker(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    run_once(deployment, feed, outcomes)
    spend(feed, ["acct-0"], 5)
    topic = topic_name(deployment.kafka, ACCOUNT_EVENTS)
    everything = [TopicPartition(topic, each, -1) for each in range(deployment.kafka.partitions)]
    client = admin(deployment.kafka)
    for future in client.delete_records(everything).values():
        future.result(30)
    assert_refuses(deployment, "retention has deleted events that were never metered")


def test_topics_that_would_lose_data_stop_the_worker(deployment: Settings) -> None:
    client, topic = admin(deployment.kafka), topic_name(deployment.kafka, METERED_RECORDS)
    client.delete_topics([topic])[topic].result(30)
    wait_until("the topic is gone", lambda: topic not in client.list_topics(timeout=10).topics)
    client.create_topics([NewTopic(topic, deployment.kafka.partitions, 1)])[topic].result(30)
    assert_refuses(deployment, "expected retention.ms at least")


def test_too_many_dead_letters_stop_the_worker_before_they_are_committed(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    for _ in range(2000):
        feed.send_bytes(b"not json")
    feed.flush()
    with workers(deployment, "a") as (worker,):
        assert worker.wait_for_end(30) == 6, worker.log
        assert "DEAD_LETTER_SHARE_MAX" in worker.log
    assert len(outcomes.settle()) < feed.sent


def test_markers_of_transactions_in_the_input_are_stepped_over(
    deployment: Settings, feed: Feed, outcomes: Outcomes
) -> None:
    accounts = open_accounts(feed, 4)
    publisher = producer(deployment.kafka, transactional_id="publisher")
    publisher.init_transactions(30)
    topic = topic_name(deployment.kafka, ACCOUNT_EVENTS)
    for number in range(6):
        publisher.begin_transaction()
        publisher.produce(topic, b"in a transaction", b"acct")
        publisher.flush(10)  # So that the broker knows of the transaction before it ends.
        if number % 2:
            publisher.abort_transaction(30)
        else:
            publisher.commit_transaction(30)
            feed.sent += 1
    with workers(deployment, "a"):
        outcomes.wait_for(feed.sent)
        spend(feed, accounts, 20)
        outcomes.wait_for(feed.sent)
    assert_each_offset_once(outcomes.settle(), feed.sent)


def run_once(deployment: Settings, feed: Feed, outcomes: Outcomes) -> None:
    """A little is metered, and the worker stopped."""
    spend(feed, open_accounts(feed, 4), 20, named="once")
    with workers(deployment, "once") as (worker,):
        outcomes.wait_for(feed.sent)
        worker.send(SIGTERM)
        assert worker.wait_for_end() == 0, worker.log


def assert_refuses(deployment: Settings, because: str) -> None:
    """A worker started now ends with the code that asks for a person, and says why and what to do."""
    with workers(deployment, "refusing") as (worker,):
        assert worker.wait_for_end(30) == 4, worker.log
        assert because in worker.log
        assert "Remedy:" in worker.log
