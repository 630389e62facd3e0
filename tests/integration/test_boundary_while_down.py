"""The worker was down across a boundary with usage waiting: each event belongs to the side on which it was accepted."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from signal import SIGTERM
from typing import Any

import orjson
import pytest

from pipeline.demo.backdating import producers_dates
from pipeline.domain.instants import as_instant, format_instant
from pipeline.kafka import producer, topic_name
from pipeline.reconcile.topics import Log
from pipeline.settings import KafkaSettings, Settings
from schemas.topics import ACCOUNT_BALANCES, ACCOUNT_EVENTS, ACCOUNT_STATEMENTS, LEDGER_ENTRIES
from tests.backdating import opening_for_boundary
from tests.builders import issue_grant, open_account, usage
from tests.e2e.audit import audit_log
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, streaming, wait_until_held, workers

pytestmark = pytest.mark.integration

BEFORE, AFTER = 3, 2
"""Events of one credit each, on either side of the boundary."""


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    return streaming(kafka, tmp_path, partitions=1)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def use_on_both_sides(settings: Settings, feed: Feed, boundary_ms: int) -> None:
    """Nobody reads meanwhile. The broker's own append times say on which side each event is."""
    log = Log(settings.kafka)
    use(feed, BEFORE, "before")
    assert append_times(log)[-1] < boundary_ms, "the machine was too slow for this boundary"
    wait_until("the boundary has passed", lambda: now_ms() > boundary_ms)
    use(feed, AFTER, "after")
    assert append_times(log)[-AFTER] > boundary_ms
    log.close()


def use(feed: Feed, count: int, name: str) -> None:
    for number in range(count):
        feed.send(usage(event_id=f"{name}-{number}", at=now_ms()))
    feed.flush()


def append_times(log: Log) -> list[int]:
    return [message.timestamp()[1] for message in log.messages(ACCOUNT_EVENTS, 0)]


def said(settings: Settings, topic: str) -> list[dict[str, Any]]:
    log = Log(settings.kafka)
    found = [orjson.loads(message.value() or b"") for message in log.messages(topic, 0)]
    log.close()
    return found


def test_usage_is_charged_to_the_period_in_which_it_was_accepted(deployment: Settings) -> None:
    feed, outcomes = Feed(deployment.kafka), Outcomes(deployment.kafka)
    period_end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=4)
    opened_ms = as_instant(opening_for_boundary(period_end))
    with producers_dates(deployment.kafka):
        opened = open_account("starter", at=opened_ms)
        publisher = producer(deployment.kafka)
        topic = topic_name(deployment.kafka, ACCOUNT_EVENTS)
        publisher.produce(topic, orjson.dumps(opened), b"acct", timestamp=opened_ms)
        assert publisher.flush(10) == 0

    use_on_both_sides(deployment, feed, as_instant(period_end))
    with workers(deployment, "a"):
        outcomes.wait_for(1 + BEFORE + AFTER)

    statement = said(deployment, ACCOUNT_STATEMENTS)[-1]
    balance = said(deployment, ACCOUNT_BALANCES)[-1]
    assert statement["period_end"] == balance["period_start"] == format_instant(as_instant(period_end))
    assert [Decimal(statement[name]) for name in ("used", "closing")] == [BEFORE, 0]
    assert [Decimal(balance[name]) for name in ("period_used", "posted")] == [AFTER, 500 - AFTER]
    assert audit_log(deployment).differences == []


def test_usage_takes_from_a_grant_until_the_instant_at_which_it_expired(deployment: Settings) -> None:
    feed, outcomes = Feed(deployment.kafka), Outcomes(deployment.kafka)
    with workers(deployment, "a") as (worker,):
        wait_until_held(deployment, worker)
        expires_at = format_instant(expires_ms := now_ms() + 5000)
        feed.send(
            open_account("prepaid", at=now_ms()),
            issue_grant("10", grant_id="gift", kind="promotional", expires_at=expires_at, at=now_ms()),
            issue_grant("100", grant_id="pack", at=now_ms()),
        )
        feed.flush()
        outcomes.wait_for(3)
        worker.send(SIGTERM)
        assert worker.wait_for_end() == 0, worker.log

    use_on_both_sides(deployment, feed, expires_ms)
    with workers(deployment, "b"):
        outcomes.wait_for(3 + BEFORE + AFTER)

    entries = [(each["kind"], each["credits"], each["grants"][0]["grant_id"], each["booked_at"])
               for each in said(deployment, LEDGER_ENTRIES)]  # fmt: skip
    assert [entry[:3] for entry in entries] == [
        ("grant", "10", "gift"),
        ("grant", "100", "pack"),
        *[("usage", "-1", "gift")] * BEFORE,
        ("expiration", str(BEFORE - 10), "gift"),
        *[("usage", "-1", "pack")] * AFTER,
    ]
    assert entries[2 + BEFORE][3] == expires_at
    assert audit_log(deployment).differences == []
