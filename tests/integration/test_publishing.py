"""Prices that change under load: every partition switches at the same instant, whatever its workers went through."""

import json
import threading
import time
from itertools import cycle
from pathlib import Path
from signal import SIGKILL

import orjson
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app
from pipeline.client.commands import CommandKey, signed
from pipeline.client.publication import publication, publish
from pipeline.client.schedule import DeploymentReader
from pipeline.domain.instants import SECOND_MS, format_instant, parse_instant
from pipeline.published import content_hash
from pipeline.settings import KafkaSettings, RuleSettings, Settings, WorkerSettings
from pipeline.state import price_book_key
from schemas.publication import PRICE_BOOK_TYPE
from tests import builders
from tests.builders import flat_book, issue_grant, open_account, usage
from tests.e2e.audit import audit_log
from tests.stack import wait_until
from tests.stream_workers import (
    QUICK,
    Feed,
    Outcomes,
    Worker,
    assert_each_offset_once,
    streaming,
    wait_until_held,
    workers,
)

pytestmark = pytest.mark.integration

LEAD_SECONDS = 2
AHEAD_SECONDS = 4
"""From publishing to the switch: time enough to kill one worker and to start another."""


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    worker = WorkerSettings(dead_letter_window_records=500, **QUICK)
    rules = RuleSettings(publish_lead_seconds=LEAD_SECONDS)
    return streaming(kafka, tmp_path, worker=worker, rules=rules)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def publish_book(settings: Settings, version: str, *, effective_from: int) -> list[tuple[int, int]]:
    content = flat_book(version, effective_from=effective_from, image_analysis="7")
    command = publication(
        PRICE_BOOK_TYPE,
        content,
        sha256=content_hash(orjson.dumps(content)),
        command_id=version,
        source="/operators",
        at=format_instant(now_ms()),
    )
    key = CommandKey(builders.KEY_ID, builders.SECRET)
    return [(each.partition, each.offset) for each in publish(settings, signed(command, key))]


class Load:
    """Accounts with credits enough, and usage of them in a thread until it is stopped."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.feed, self._stop = Feed(kafka), threading.Event()
        self._accounts = [f"acct-{number}" for number in range(40)]
        self._thread = threading.Thread(target=self._use)

    def start(self) -> None:
        for name in self._accounts:
            self.feed.send(open_account("pro", account=name, at=now_ms()))
            self.feed.send(issue_grant("1000000", grant_id=f"pack-{name}", account=name, at=now_ms()))
        self._thread.start()

    def stop(self) -> int:
        """How many records were sent."""
        self._stop.set()
        self._thread.join()
        return self.feed.sent

    def _use(self) -> None:
        for number, name in enumerate(cycle(self._accounts)):
            if self._stop.wait(0.002):
                break
            self.feed.send(usage("image_analysis", account=name, event_id=f"e{number}", at=now_ms()))
        self.feed.flush()


def test_all_partitions_switch_at_the_same_instant_through_a_kill(deployment: Settings) -> None:
    load, outcomes = Load(deployment.kafka), Outcomes(deployment.kafka)
    with workers(deployment, "a", "b") as running:
        wait_until_held(deployment, *running)
        load.start()
        outcomes.wait_for(200)
        switch_at = now_ms() + AHEAD_SECONDS * SECOND_MS
        running[0].send(SIGKILL)
        places = publish_book(deployment, "new", effective_from=switch_at)
        running[1].send(SIGKILL)
        wait_until("the switch has passed with nobody there", lambda: now_ms() > switch_at + SECOND_MS)
        running += [Worker(deployment, "c"), Worker(deployment, "d")]
        wait_until_held(deployment, *running[2:])
        sent = load.stop() + len(places)
        outcomes.wait_for(sent)
    said = outcomes.settle()
    assert_each_offset_once(said, sent)
    everywhere = set(range(deployment.kafka.partitions))
    answers = [each.body for each in said if each.body.get("publication")]
    assert sorted((each["partition"], each["offset"]) for each in answers) == places
    assert {(each["partition"], each["outcome"]) for each in answers} == {
        (each, "accepted") for each in everywhere
    }
    priced = [each.body for each in said if each.body.get("outcome") == "metered"]
    for record in priced:
        after = parse_instant(record["accepted_at"]) >= switch_at
        expected = ("new", "7") if after else ("2026-01", "1")
        assert (record["price_book"], record["credits"]) == expected, record
    seen = {(each["partition"], each["price_book"]) for each in priced}
    assert seen == {(partition, book) for partition in everywhere for book in ("2026-01", "new")}
    assert audit_log(deployment).differences == []


def test_the_command_line_says_which_prices_the_running_deployment_has(
    deployment: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(deployment.home))

    def cli(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, (arguments, result.output, result.exception)
        return result.stdout

    next_year = parse_instant("2099-01-01T00:00:00Z")
    book = tmp_path / "book.json"
    book.write_text(json.dumps(flat_book("2099-01", effective_from=next_year)))
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps(builders.catalog("2099-01", effective_from=next_year, max="9")))
    with workers(deployment, "a") as running:
        wait_until_held(deployment, *running)
        accepted = json.loads(cli("price-book", "publish", str(book), "--json"))
        assert [each["outcome"] for each in accepted["partitions"]] == [
            "accepted"
        ] * deployment.kafka.partitions
        assert "duplicate" in cli("price-book", "publish", str(book))
        cli("price-book", "publish", str(book), "--at", "2100-01-01T00:00:00Z", code=4)
        cli(
            "price-book",
            "publish",
            str(book),
            "--at",
            format_instant(now_ms() + LEAD_SECONDS * SECOND_MS),
            code=4,
        )
        cli("plan", "publish", str(plans))
        listed = json.loads(cli("price-book", "list", "--json"))
        everywhere = list(range(deployment.kafka.partitions))
        versions = [(each["version"], each["partitions"]) for each in listed["versions"]]
        assert versions == [("2026-01", everywhere), ("2099-01", everywhere)]
        assert listed["origin"] == "deployment"
        assert json.loads(cli("price-book", "show", "2099-01")) == json.loads(book.read_text())
        assert json.loads(cli("plan", "list", "--json"))["version"] == "2026-01"
        assert [each["version"] for each in json.loads(cli("plan", "versions", "--json"))["versions"]][
            -1
        ] == "2099-01"
        cli("price-book", "show", "nobody", code=3)
    reader = DeploymentReader(deployment)
    assert reader.content(price_book_key("2099-01")) is not None
    reader.close()
