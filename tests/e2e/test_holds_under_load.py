"""A thousand holds at once, two workers, usage in between: exactly what fits is let through."""

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from random import Random
from threading import Event, Thread
from typing import Any

import orjson
import pytest

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.reconcile import reconcile
from pipeline.reconcile.topics import Log
from pipeline.scheduler import serve
from pipeline.settings import SchedulerSettings, Settings
from schemas.topics import ACCOUNT_BALANCES, LEDGER_ENTRIES
from tests.builders import SQUARE, command, issue_grant, open_account, usage
from tests.e2e.audit import audit_log
from tests.integration.sinking import sinks
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, Said, wait_until_held, workers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SEED = 4
ACCOUNTS = [f"acct-{number}" for number in range(50)]
HOLDS = 1000
ASKERS = 4
"""Services that ask at the same time, each with a producer of its own."""
HOLD_SECONDS = 3
USAGE_PER_SECOND = 400
TICK_SECONDS = 0.25


@pytest.fixture
def deployment(settings: Settings) -> Settings:
    """With hasty ticks, so that what nobody ends expires within the test."""
    hasty = settings.model_copy(update={"scheduler": SchedulerSettings(tick_seconds=TICK_SECONDS)})
    ensure_topics(hasty)
    return hasty


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def open_with(settings: Settings, granted: Mapping[str, int]) -> None:
    """Accounts that have so many credits, and no others."""
    feed = Feed(settings.kafka)
    for name, amount in granted.items():
        feed.send(open_account("prepaid", account=name, at=now_ms(), command_id=f"open-{name}"))
        feed.send(issue_grant(str(amount), account=name, at=now_ms()))
    feed.flush()


def ask_at_once(settings: Settings, holds: Sequence[Mapping[str, Any]]) -> None:
    """All of them from several producers side by side."""

    def ask(mine: Sequence[Mapping[str, Any]]) -> None:
        feed = Feed(settings.kafka)
        feed.send(*mine)
        feed.flush()

    askers = [Thread(target=ask, args=(holds[number::ASKERS],)) for number in range(ASKERS)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()


@contextmanager
def running(work: Any, *arguments: Any) -> Generator[None, None, None]:
    """A thread that is told to stop, by an event as its last argument, when the block ends."""
    stop = Event()
    thread = Thread(target=work, args=(*arguments, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stream_usage(settings: Settings, sent: list[int], stop: Event) -> None:
    """Usage of all accounts at an even pace, until told to stop."""
    feed, chance = Feed(settings.kafka), Random(SEED)
    while not stop.wait(10 / USAGE_PER_SECOND):
        for _ in range(10):
            feed.send(usage(account=chance.choice(ACCOUNTS), event_id=f"u{feed.sent}", at=now_ms()))
    feed.flush()
    sent.append(feed.sent)


def test_holds_that_come_at_once_are_admitted_until_the_credits_are_set_aside(deployment: Settings) -> None:
    chance = Random(SEED)
    granted = {name: chance.randint(5, 60) for name in ACCOUNTS}
    sizes = {name: chance.randint(1, 7) for name in ACCOUNTS}
    each = HOLDS // len(ACCOUNTS)
    holds = [
        command(
            "hold", {"hold_id": f"h{number}", "credits": sizes[name]}, account=name, at=now_ms(),
            command_id=f"h{number}",
        )
        for number in range(each)
        for name in ACCOUNTS
    ]  # fmt: skip
    outcomes = Outcomes(deployment.kafka)
    with workers(deployment, "a", "b") as (a, b):
        wait_until_held(deployment, a, b)
        open_with(deployment, granted)
        outcomes.wait_for(2 * len(ACCOUNTS))
        ask_at_once(deployment, holds)
        outcomes.wait_for(2 * len(ACCOUNTS) + HOLDS)
    said = outcomes.settle()
    admitted = Counter(hold.body["account_id"] for hold in answers(said, "hold") if is_admitted(hold))
    assert admitted == {name: min(granted[name] // sizes[name], each) for name in ACCOUNTS}
    assert audit_log(deployment).differences == []


def test_holds_amid_usage_are_admitted_as_the_log_says_and_end_in_every_way(deployment: Settings) -> None:
    migrate(deployment)
    chance = Random(SEED)
    holds = [
        command("hold", hold_data(f"h{number}", chance), account=chance.choice(ACCOUNTS), at=now_ms(),
                command_id=f"h{number}")
        for number in range(HOLDS)
    ]  # fmt: skip
    outcomes, sent = Outcomes(deployment.kafka), list[int]()
    with workers(deployment, "a", "b") as (a, b), sinks(deployment), running(serve, deployment):
        wait_until_held(deployment, a, b)
        open_with(deployment, {name: chance.randint(30, 90) for name in ACCOUNTS})
        outcomes.wait_for(2 * len(ACCOUNTS))
        with running(stream_usage, deployment, sent):
            ask_at_once(deployment, holds)
            wait_until("every hold is answered", lambda: len(taken(outcomes, "hold")) == HOLDS)
            ends = [end for hold in taken(outcomes, "hold") if (end := end_of(hold, chance))]
            ask_at_once(deployment, ends)
        captures = sum(end["type"].endswith("capture.v1") for end in ends)
        outcomes.wait_for(2 * len(ACCOUNTS) + HOLDS + len(ends) + captures + sent[0])
        wait_until("the other holds have expired", lambda: not open_holds(deployment))
        said = outcomes.settle()
        assert reconcile(deployment).differences == ()

    assert Counter(is_admitted(each) for each in answers(said, "hold")).keys() == {True, False}
    assert {each.body["outcome"] for each in answers(said, "capture")} == {"accepted"}
    assert {each.body["outcome"] for each in answers(said, "release")} == {"accepted"}
    admitted = sum(is_admitted(each) for each in answers(said, "hold"))
    assert admitted > len(ends) > captures > 0, "some captured, some released, some expired"
    lowest = min(Decimal(entry["balance_after"]) for entry in records(deployment, LEDGER_ENTRIES))
    assert lowest >= 0
    assert all(Decimal(each["available"]) >= 0 for each in records(deployment, ACCOUNT_BALANCES))
    # Judges every hold anew, from the raw log in its order, with rules of its own.
    assert audit_log(deployment).differences == []


def hold_data(hold_id: str, chance: Random) -> dict[str, Any]:
    """One to five images, or as many as fit, or an amount."""
    images = chance.randint(1, 5)
    if chance.random() < 0.2:
        return {"hold_id": hold_id, "seconds": HOLD_SECONDS, "credits": f"{images}.5"}
    placed = {"type": "org.apimage.usage.image_generation.v1", "data": {**SQUARE, "images": images}}
    partial = chance.random() < 0.3
    return {"hold_id": hold_id, "seconds": HOLD_SECONDS, "usage": placed, "partial": partial}


def end_of(hold: Said, chance: Random) -> dict[str, Any] | None:
    """A third of the admitted holds is captured, a third released, the others expire."""
    choice, body = chance.choice(("capture", "release", "expire")), hold.body
    if not is_admitted(hold) or choice == "expire":
        return None
    hold_id, at = body["hold"]["hold_id"], now_ms()
    data: dict[str, Any] = {"hold_id": hold_id}
    if choice == "capture":
        used = usage(event_id=f"used-{hold_id}", account=body["account_id"], at=at)
        data["usage"] = {name: used[name] for name in ("type", "id", "source", "time", "data")}
    return command(choice, data, account=body["account_id"], at=at, command_id=f"{choice}-{hold_id}")


def answers(said: Sequence[Said], name: str) -> list[Said]:
    return [each for each in said if each.body.get("type") == f"org.apimage.account.{name}.v1"]


def taken(outcomes: Outcomes, name: str) -> list[Said]:
    outcomes.wait_for(len(outcomes.said) + 1)
    return answers(outcomes.said, name)


def is_admitted(hold: Said) -> bool:
    return bool(hold.body["outcome"] == "accepted")


def records(settings: Settings, topic: str) -> list[dict[str, Any]]:
    log = Log(settings.kafka)
    found = [
        orjson.loads(message.value() or b"")
        for partition in range(settings.kafka.partitions)
        for message in log.messages(topic, partition)
    ]
    log.close()
    return found


def open_holds(settings: Settings) -> set[str]:
    """Accounts whose newest balance has holds."""
    newest = {each["account_id"]: each["holds"] for each in records(settings, ACCOUNT_BALANCES)}
    return {name for name, holds in newest.items() if holds}
