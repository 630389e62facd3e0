"""Time passes for accounts that nobody uses, by ticks alone, however many schedulers say so."""

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM
from threading import Event, Thread
from typing import Any

import orjson
import pytest

from pipeline.admin.topics import expected_topics
from pipeline.domain.instants import format_instant
from pipeline.reconcile.topics import Log
from pipeline.scheduler import serve
from pipeline.settings import KafkaSettings, SchedulerSettings, Settings, child_environment
from schemas.topics import ACCOUNT_EVENTS, LEDGER_ENTRIES, changelog
from tests.builders import issue_grant, open_account
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, streaming, workers, write_settings

pytestmark = pytest.mark.integration
TICK_SECONDS = 0.1
LIFE_SECONDS = 1.5
PARTITIONS = 2


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    """A deployment of its own on the session's broker, with hasty schedulers."""
    scheduler = SchedulerSettings(tick_seconds=TICK_SECONDS)
    return streaming(kafka, tmp_path, partitions=PARTITIONS, scheduler=scheduler)


@contextmanager
def schedulers(settings: Settings, count: int) -> Generator[None, None, None]:
    stop = Event()
    threads = [Thread(target=serve, args=(settings, stop)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def expirations(log: Log) -> list[dict[str, Any]] | None:
    return [each for each in entries(log) if each["kind"] == "expiration"] or None


def entries(log: Log) -> list[dict[str, Any]]:
    return [
        orjson.loads(message.value() or b"")
        for partition in range(PARTITIONS)
        for message in log.messages(LEDGER_ENTRIES, partition)
    ]


def ends(settings: Settings, log: Log) -> dict[str, list[int]]:
    """Where every topic ends, by partition, markers of transactions included."""
    names = [each.name.removeprefix(settings.kafka.topic_prefix) for each in expected_topics(settings)]
    return {name: [log.bounds(name, number)[1] for number in range(PARTITIONS)] for name in names}


def test_an_idle_accounts_grant_expires_by_ticks_alone_and_only_once(deployment: Settings) -> None:
    feed, outcomes, log = Feed(deployment.kafka), Outcomes(deployment.kafka), Log(deployment.kafka)
    now_ms = time.time_ns() // 1_000_000
    expires_at = format_instant(now_ms + int(LIFE_SECONDS * 1000))
    feed.send(open_account("prepaid", at=now_ms), issue_grant("7", at=now_ms, expires_at=expires_at))
    feed.flush()
    with workers(deployment, "a"):
        outcomes.wait_for(2)
        with schedulers(deployment, 2):
            found = wait_until("the grant expires", lambda: expirations(log))
            before = ends(deployment, log)
            wait_until(
                "twenty more ticks are answered for",
                lambda: _advance(deployment, log, before) > 20 * 2,
            )
        after = ends(deployment, log)
    (expired,) = found
    assert (expired["credits"], expired["booked_at"], expired["balance_after"]) == (
        "-7",
        expires_at,
        "0",
    )
    assert len(entries(log)) == 2, "granted and expired, each once"
    assert len(outcomes.settle()) == 2, "a tick has no outcome"
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {ACCOUNT_EVENTS, changelog(deployment.worker.app_id)}, (
        "an idle tick costs the cursor alone"
    )
    log.close()


def _advance(settings: Settings, log: Log, before: dict[str, list[int]]) -> int:
    """Offsets that the table's changelog has moved on: of each batch of ticks a cursor and a marker."""
    name = changelog(settings.worker.app_id)
    return sum(log.bounds(name, number)[1] - before[name][number] for number in range(PARTITIONS))


def scheduler(settings: Settings, **environment: str) -> subprocess.Popen[bytes]:
    write_settings(settings)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "scheduler"],
        env=child_environment(settings, **environment),
        stderr=subprocess.DEVNULL,
    )


def test_the_process_ticks_every_partition_until_it_is_asked_to_end(deployment: Settings) -> None:
    log = Log(deployment.kafka)
    process = scheduler(deployment)
    try:
        wait_until(
            "ticks in all partitions",
            lambda: all(log.bounds(ACCOUNT_EVENTS, number)[1] > 1 for number in range(PARTITIONS)),
        )
        process.send_signal(SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    ids = [
        orjson.loads(message.value() or b"")["id"]
        for number in range(PARTITIONS)
        for message in log.messages(ACCOUNT_EVENTS, number)
    ]
    assert len(ids) == len(set(ids))
    log.close()


def test_a_scheduler_whose_broker_is_away_ends_so_that_it_is_started_again(deployment: Settings) -> None:
    nobody = {"CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    process = scheduler(deployment, **nobody, CREDITSTREAM_CLIENT__DELIVERY_TIMEOUT_MS="500")
    assert process.wait(20) == 5
