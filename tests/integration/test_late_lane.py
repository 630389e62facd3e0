"""Late usage and mended dead letters come back, each charged once: real Kafka, worker, sink, ClickHouse."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.cli.app import app
from pipeline.clickhouse import open_client
from pipeline.client.commands import command_key, signed, unsigned_command
from pipeline.client.events import usage_event
from pipeline.client.origin import now_text
from pipeline.readmission import Letter, NotStoredError, Readmission
from pipeline.reconcile.run import reconcile
from pipeline.settings import Settings
from tests.integration.sinking import sinks
from tests.integration.test_cli import write_settings
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, Said, program, wait_until_held, workers

pytestmark = pytest.mark.integration


def days_ago(days: float) -> str:
    at = datetime.now(UTC) - timedelta(days=days)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ocr(event_id: str, *, time: str, images: int = 1, account: str = "acme") -> dict[str, Any]:
    return usage_event(
        "image_analysis", account=account, event_id=event_id, source="/services/ocr", time=time,
        data={"images": images},
    )  # fmt: skip


@pytest.fixture
def deployment(settings: Settings) -> Iterator[Settings]:
    """With a worker, a sink, and an account that is open."""
    ensure_topics(settings)
    migrate(settings)
    with workers(settings, "worker") as [worker], sinks(settings):
        write_settings(settings)
        wait_until_held(settings, worker)
        send(settings, opened("acme"))
        Outcomes(settings.kafka).wait_for(1)
        yield settings


def opened(account: str) -> dict[str, Any]:
    return unsigned_command(
        "open", account=account, command_id=f"open-{account}", source="/tests", time=now_text(),
        data={"plan": "starter"},
    )  # fmt: skip


def send(settings: Settings, *events: dict[str, Any]) -> None:
    key = command_key(settings)
    assert key is not None
    feed = Feed(settings.kafka)
    feed.send(*[signed(each, key) if ".account." in each["type"] else each for each in events])
    feed.flush()


def of(said: list[Said], outcome: str, **fields: str) -> list[dict[str, Any]]:
    return [
        each.body
        for each in said
        if each.body.get("outcome", "dead_letter") == outcome and fields.items() <= each.body.items()
    ]


def test_late_usage_is_charged_once_however_often_it_comes_and_the_lane_is_killed(
    deployment: Settings,
) -> None:
    outcomes = Outcomes(deployment.kafka)
    late = ocr("late", time=days_ago(5), images=3)
    send(deployment, late, late, ocr("fresh", time=now_text()), ocr("too-late", time=days_ago(36)))
    outcomes.wait_for(5)
    with program(deployment, "late-lane") as first:
        outcomes.wait_for(5 + 3)  # The metered record and two answers.
        first.kill()
        first.wait()
    with program(deployment, "late-lane"):
        send(deployment, {**late, "time": days_ago(4)}, {**late, "data": {"images": 4}})
        said = outcomes.wait_for(5 + 3 + 2)

    assert [each["reason"] for each in of(said, "dead_letter")] == ["late", "late", "too_late", "conflict"]
    (charged,) = of(said, "metered", event_id="late")
    assert charged["credits"] == "3"
    assert len(of(said, "duplicate", event_id="late")) == 1
    answers = [(each["outcome"], each["reason"]) for each in (s.body for s in said) if "command_id" in each]
    assert answers == [("accepted", ""), ("accepted", ""), ("refused", "usage_answered")]
    report = reconcile(deployment)
    assert report.differences == ()


def test_the_records_are_looked_at_only_when_everything_older_is_stored(settings: Settings) -> None:
    rules = settings.rules.model_copy(
        update={"ahead_seconds_max": 0}
    )  # So that what was just charged is old.
    deployment = settings.model_copy(update={"rules": rules})
    ensure_topics(deployment)
    migrate(deployment)
    key = command_key(deployment)
    assert key is not None
    event = ocr("e1", time=now_text(), images=2)
    letters = [
        Letter(event=each, partition=0, offset=7, accepted_at=now_text())
        for each in (event, {**event, "data": {"images": 3}}, {**event, "id": "e2"})
    ]
    look = Readmission(deployment, open_client(deployment.clickhouse), key, source="/tests")
    with workers(deployment, "worker") as [worker]:
        write_settings(deployment)
        wait_until_held(deployment, worker)
        send(deployment, opened("acme"), event)
        Outcomes(deployment.kafka).wait_for(2)
        with pytest.raises(NotStoredError, match=r"offset 1: is the sink running"):
            look.commands(letters, seconds_max=0)
        with sinks(deployment):
            commands = look.commands(letters, seconds_max=30)
    look.close()

    known = [each["data"].get("known") for each in commands]
    assert known == [{"offset": 1, "same_content": True}, {"offset": 1, "same_content": False}, None]


def test_a_dead_letter_is_put_back_when_its_cause_is_mended(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(deployment.home))
    outcomes = Outcomes(deployment.kafka)
    wrong = {**ocr("wrong", time=now_text()), "data": {"images": "2"}}
    send(deployment, ocr("early-bird", time=days_ago(1), account="bird"), wrong)
    outcomes.wait_for(3)
    send(deployment, opened("bird"))
    outcomes.wait_for(4)

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ("dead-letters", *arguments))
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    letters = until_listed(run, 2)
    places = {each["event_id"]: f"{each['partition']}:{each['offset']}" for each in letters}
    assert '"images":"2"' in run("show", places["wrong"])
    run("replay", places["wrong"], code=2)
    mended = deployment.home / "mended.json"
    mended.write_text(json.dumps({**wrong, "data": {"images": 2}}))
    assert "accepted" in run("replay", places["wrong"], "--event", str(mended))
    assert "accepted" in run("replay", "--reason", "unknown_account", "--account", "bird")
    assert "usage_answered" in run("replay", places["early-bird"], code=4)

    charged = {each["event_id"]: each["credits"] for each in of(outcomes.settle(), "metered")}
    assert charged == {"wrong": "2", "early-bird": "1"}


def until_listed(run: Any, count: int) -> list[dict[str, Any]]:
    wait_until("the sink has stored the letters", lambda: len(json.loads(run("list", "--json"))) == count, 30)
    letters: list[dict[str, Any]] = json.loads(run("list", "--json"))
    return letters
