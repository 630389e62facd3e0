"""`kill -9` of a service under load, at random moments of a broker that comes and goes: what was acknowledged is
charged once, in order. `CREDITSTREAM_CLIENT_KILLS=20` for the long run."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.client import ClientOptions, UsageClient
from pipeline.settings import Settings, WorkerSettings
from tests import builders
from tests.builders import issue_grant, open_account
from tests.integration.broker import own_broker
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, wait_until_held, workers

pytestmark = pytest.mark.integration
KILLS = int(os.environ.get("CREDITSTREAM_CLIENT_KILLS", "4"))
SEED = int(os.environ.get("CREDITSTREAM_CLIENT_SEED", "7"))
ACCOUNTS = 5
LIFE_SECONDS = (0.3, 1.5)
"""Of a service, from its first acknowledgement."""
NAP_SECONDS = (0.0, 1.0)
"""Of the broker, within a life."""
QUEUE_EVENTS_MAX = 300
"""Small, so that a service waits for its acknowledgements and the log stays readable."""
NUMBERS_OF_A_LIFE = 1_000_000


def test_a_service_killed_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    random = Random(SEED)
    with own_broker(tmp_path / "broker") as broker:
        kafka = broker.settings.model_copy(update={"topic_prefix": f"k{uuid4().hex[:10]}."})
        options = ClientOptions(
            source="/services/killed",
            kafka=kafka,
            spool_directory=tmp_path / "spool",
            spool_after_ms=200,
            queue_events_max=QUEUE_EVENTS_MAX,
            on_full="block",
        )
        settings = Settings(
            home=tmp_path / "home",
            kafka=kafka,
            worker=WorkerSettings(session_timeout_ms=20_000),
            command_keys={builders.KEY_ID: SecretStr(builders.SECRET.hex())},
        )
        ensure_topics(settings)
        open_accounts(Feed(kafka))
        (tmp_path / "options.json").write_text(options.model_dump_json())
        for life in range(KILLS):
            service = start(tmp_path, first_number=life * NUMBERS_OF_A_LIFE)
            wait_until(
                "the service is at work", partial(has_more_than, len(acknowledged(tmp_path)), tmp_path)
            )
            nap = random.uniform(*NAP_SECONDS)
            broker.sleep()
            time.sleep(nap)  # Not a wait: the length of an outage.
            if random.random() < 0.5:
                broker.wake()
                time.sleep(random.uniform(*LIFE_SECONDS))
            service.kill()
            service.wait()
            broker.wake()
        with UsageClient(options) as heir:
            wait_until("the spool is empty", lambda: not list((tmp_path / "spool").iterdir()), 60)
            assert heir.stats().spool_damaged == 0
        assert_charged_once(settings, acknowledged(tmp_path))


def start(directory: Path, *, first_number: int) -> "subprocess.Popen[bytes]":
    files = [str(directory / "options.json"), str(directory / "acknowledged")]
    command = [
        sys.executable,
        "-m",
        "tests.integration.client_service",
        *files,
        str(first_number),
        str(ACCOUNTS),
    ]
    with (directory / "service.log").open("ab") as log:
        return subprocess.Popen(command, stderr=log)


def acknowledged(directory: Path) -> dict[str, int]:
    """Number by event id."""
    path = directory / "acknowledged"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {event_id: int(number) for number, event_id in lines}


def has_more_than(events: int, directory: Path) -> bool:
    return len(acknowledged(directory)) > events


def open_accounts(feed: Feed) -> None:
    for account in range(ACCOUNTS):
        name, at = f"acct-{account}", time.time_ns() // 1_000_000
        feed.send(open_account("pro", account=name, at=at))
        feed.send(issue_grant("10000000", grant_id=f"pack-{name}", account=name, at=at))
    feed.flush()


def assert_charged_once(settings: Settings, acknowledged: dict[str, int]) -> None:
    outcomes = Outcomes(settings.kafka)
    with workers(settings, "worker") as [worker]:
        wait_until_held(settings, worker)
        charged: dict[str, int] = {}
        numbers: dict[str, list[int]] = {}
        read = 0

        def all_there() -> bool:
            nonlocal read
            said = outcomes.settle()
            for each in said[read:]:
                if each.body.get("outcome") == "metered":
                    charged[each.body["event_id"]] = charged.get(each.body["event_id"], 0) + 1
                    numbers.setdefault(each.body["account_id"], []).append(each.body["attributes"]["number"])
            read = len(said)
            return acknowledged.keys() <= charged.keys()

        wait_until("every acknowledged event is charged", all_there, 60)
        assert set(charged.values()) == {1}
        for account, seen in numbers.items():
            assert seen == sorted(seen), f"{account} out of order"
