"""The demonstration: a month before today through the producer path, then today: answered, put back, corrected.

A run has accounts of its own (`demo-team`, then `demo2-team`, …), so that its figures are the same whatever was there
before. Where the log is empty the month has its own dates; else all of it is accepted now.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pipeline.clickhouse import open_client
from pipeline.client.commands import CommandKey, signed, unsigned_command
from pipeline.client.events import encode, usage_event, usage_type
from pipeline.client.origin import now, now_text
from pipeline.client.outcomes import Outcome, OutcomeReader
from pipeline.client.publisher import Delivered, Publisher
from pipeline.corrections import charges_of, record_place
from pipeline.demo.backdating import producers_dates
from pipeline.demo.month import ACCOUNTS, LATE_DAYS, ONE_CREDIT, SOURCE, SQUARE, Planned, month
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS

RUNS_MAX: Final = 1000
WAIT_SECONDS_MAX: Final = 180
"""For the late lane, the payment process and the sink, each."""
POLL_SECONDS: Final = 0.1


class Example(NamedTuple):
    """A worked example of the product page: what the page says that it costs, as one number."""

    name: str
    what: str
    service: str
    data: dict[str, Any]
    credits: Decimal


EXAMPLES: Final = (
    Example("medium", "1 medium 1:1 image", "image_generation", ONE_CREDIT, Decimal(1)),
    Example(
        "variations",
        "4 high-quality variations",
        "image_generation",
        {"quality": "high", "images": 4, **SQUARE},
        Decimal(8),
    ),
    Example("backgrounds", "background removal ×10", "background_removal", {"images": 10}, Decimal(20)),
    Example("receipt", "OCR of one receipt", "image_analysis", {"languages": ["en", "de"]}, Decimal(1)),
    Example(
        "upscale",
        "upscale 512×512 by 4",
        "upscaling",
        {"input_width": 512, "input_height": 512, "scale": 4},
        Decimal(5),
    ),
)
EXPLAINED: Final = "variations"
REVERSED: Final = (("team-0200", "", "the images were black"), ("team-0210", "1", "one image was black"))
"""Charges of the month that are taken back today: the event, how many credits (all, if it does not say), why."""


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What was published and what became of it, in the order of publishing."""

    name: str
    accounts: tuple[str, ...]
    published: tuple[str, ...]
    """Ids of the events and commands."""
    outcomes: tuple[Outcome, ...]
    """Of these, and what others answered to them: late usage put back, a pack that was bought."""
    is_dated: bool
    """Whether the month was accepted on its own dates."""

    def outcome_of(self, name: str) -> Outcome:
        """The first outcome of the usage event with this id."""
        return next(each for each in self.outcomes if each.record.get("event_id") == name)

    def counts(self) -> dict[str, int]:
        """Outcomes of usage, and of commands together."""
        return dict(Counter(_outcome_name(outcome) for outcome in self.outcomes))

    def credits_by_service(self) -> dict[str, Decimal]:
        """What the stream charged, from its own answers: to be compared with ClickHouse."""
        charged: dict[str, Decimal] = {}
        for kind, record in self.outcomes:
            if kind == "metered_record":
                before = charged.get(record["service"], Decimal(0))
                charged[record["service"]] = before + Decimal(record["credits"])
        return charged


@dataclass(frozen=True, slots=True)
class Written:
    """The month as it stands in the log."""

    name: str
    records: tuple[Planned, ...]
    places: tuple[Delivered, ...]
    is_dated: bool


def is_log_empty(settings: Settings) -> bool:
    """Whether no record was ever written to the input log."""
    with closing(Log(settings.kafka)) as log:
        return not any(log.bounds(ACCOUNT_EVENTS, each)[1] for each in range(settings.kafka.partitions))


def write_dated_month(settings: Settings, key: CommandKey) -> Written:
    """The month on its own dates. For a log that is empty, before the first tick: its clock never goes back."""
    records = month("demo", key, now(), dated=True)
    at = now()
    with producers_dates(settings.kafka), Publisher(settings) as publisher:
        places = publisher.publish_all(
            [(each.key, each.value) for each in records], dates_ms=[at - each.ago_ms for each in records]
        )
    return Written("demo", tuple(records), tuple(places), is_dated=True)


def write_month_now(settings: Settings, key: CommandKey) -> Written:
    """The month, all of it accepted now, by the first run name whose accounts nobody has opened yet."""
    with Publisher(settings) as publisher, OutcomeReader(settings) as reader:
        for name in ("demo", *(f"demo{number}" for number in range(2, RUNS_MAX))):
            records = month(name, key, now(), dated=False)
            opening = [each for each in records if each.name.endswith("-open")]
            places = publisher.publish_all([(each.key, each.value) for each in opening])
            if _are_opened([each.record for each in reader.wait(places).values()]):
                rest = [each for each in records if each not in opening]
                places += publisher.publish_all([(each.key, each.value) for each in rest])
                return Written(name, (*opening, *rest), tuple(places), is_dated=False)
    raise AssertionError(f"expected fewer than {RUNS_MAX} demonstrations in one log")


def _are_opened(outcomes: list[dict[str, Any]]) -> bool:
    """Whether these accounts are ours now; not where somebody has them already."""
    if all(each.get("outcome") == "accepted" for each in outcomes):
        return True
    if any(each.get("reason") == "account_exists" or each.get("outcome") == "duplicate" for each in outcomes):
        return False
    raise AssertionError(f"expected the demonstration's accounts to be opened, got {outcomes!r}")


def run_demo(settings: Settings, key: CommandKey, written: Written, *, say: Callable[[str], None]) -> DemoRun:
    """Publish today's usage and commands on top of the month, and wait until all of it is answered."""
    name = written.name
    with OutcomeReader(settings, since="beginning") as reader, Publisher(settings) as publisher:
        following = _Following(reader, name)
        following.wait_for(written.places)
        say(f"  ✓ {len(written.records)} events and commands of {len(ACCOUNTS)} accounts' month are answered")
        for told in (_of_command("capture"), _is_captured):
            following.wait_until("two captures and their usage", told, 2)
        for told in (_of_command("readmit"), _is_late):
            following.wait_until(f"{len(LATE_DAYS)} late events put back", told, len(LATE_DAYS))
        following.wait_until("a pack that is bought", _of_command("topup_result"), 1)
        say("  ✓ the late lane put back what came late; the payment process bought a pack")
        today = [*_today(name, key), *_reversals(settings, name, key)]
        following.wait_for(publisher.publish_all([(each.key, each.value) for each in today]))
        for told in (_of_command("reverse"), _is_taken_back):
            following.wait_until("the answers and records of what was taken back", told, len(REVERSED))
        say(f"  ✓ {len(today)} events and commands of today are answered")
    return DemoRun(
        name=name,
        accounts=tuple(f"{name}-{each}" for each in ACCOUNTS),
        published=(*(each.name for each in written.records), *(each.name for each in today)),
        outcomes=tuple(following.seen),
        is_dated=written.is_dated,
    )


class _Following:
    """Keeps every outcome of this run's accounts, in the order in which they come."""

    def __init__(self, reader: OutcomeReader, name: str) -> None:
        self.seen: list[Outcome] = []
        self._places: set[tuple[int, int]] = set()
        self._stream = reader.stream()
        self._prefix = f"{name}-"

    def wait_for(self, places: Collection[Delivered]) -> None:
        self._take(f"outcomes of all {len(set(places))} events", lambda: self._places.issuperset(places))

    def wait_until(self, what: str, told: Callable[[Outcome], bool], number: int) -> None:
        self._take(what, lambda: sum(map(told, self.seen)) >= number)

    def _take(self, what: str, done: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_SECONDS_MAX
        while not done():
            outcome = next(self._stream)
            if outcome is not None and outcome.record["account_id"].startswith(self._prefix):
                self.seen.append(outcome)
                self._places.add((outcome.record["partition"], outcome.record["offset"]))
                until = time.monotonic() + WAIT_SECONDS_MAX
            if time.monotonic() > until:
                raise TimeoutError(
                    f"expected {what}; nothing came within {WAIT_SECONDS_MAX} s. "
                    "Remedy: `creditstream status`, and the logs that it names"
                )


def _is_late(outcome: Outcome) -> bool:
    return outcome.kind == "metered_record" and "-late-" in outcome.record["event_id"]


def _of_command(kind: str) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.kind == "command_result" and f".{kind}." in outcome.record["type"]


def _is_captured(outcome: Outcome) -> bool:
    return outcome.kind == "metered_record" and outcome.record["event_id"].endswith("-done")


def _is_taken_back(outcome: Outcome) -> bool:
    return outcome.kind == "metered_record" and outcome.record["outcome"] == "reversed"


class Sent(NamedTuple):
    name: str
    key: bytes | None
    value: bytes


def _today(name: str, key: CommandKey) -> Iterator[Sent]:
    """The page's examples, one of them sent again, what is refused, and a hold that is open."""
    for example in EXAMPLES:
        yield _usage(f"{name}-{example.name}", f"{name}-team", example.service, example.data)
    resent = next(example for example in EXAMPLES if example.name == EXPLAINED)
    yield _usage(f"{name}-{resent.name}", f"{name}-team", resent.service, resent.data)
    yield _usage(f"{name}-too-much", f"{name}-hobby", "background_removal", {"images": 40})
    yield Sent(f"{name}-malformed", f"{name}-team".encode(), b'{"specversion": "1.0", "id": ')
    thresholds = {"alert_thresholds": [80, 100]}
    yield _command("configure", f"{name}-hobby", f"{name}-hobby-thresholds", thresholds, key)
    data = {"input_width": 512, "input_height": 512, "scale": 4, "images": 4}
    usage: dict[str, Any] = {"type": usage_type("upscaling"), "data": data}
    held: dict[str, Any] = {"hold_id": "job-today", "usage": usage, "seconds": 86_400}
    yield _command("hold", f"{name}-team", f"{name}-job-today-hold", held, key)


def _usage(event_id: str, account: str, service: str, data: Mapping[str, Any]) -> Sent:
    event = usage_event(
        service, account=account, event_id=event_id, source=SOURCE, time=now_text(), data=data
    )
    return Sent(event_id, *encode(event))


def _command(kind: str, account: str, command_id: str, data: Mapping[str, Any], key: CommandKey) -> Sent:
    event = unsigned_command(
        kind, account=account, command_id=command_id, source=SOURCE, time=now_text(), data=data
    )
    return Sent(command_id, *encode(signed(event, key)))


def _reversals(settings: Settings, name: str, key: CommandKey) -> Iterator[Sent]:
    client = open_client(settings.clickhouse)
    for event, part, reason in REVERSED:
        event_id, account = f"{name}-{event}", f"{name}-team"
        until = time.monotonic() + WAIT_SECONDS_MAX
        while not (charges := charges_of(client, event_id, account=account)):
            if time.monotonic() > until:
                raise TimeoutError(f"expected ClickHouse to have {event_id} within {WAIT_SECONDS_MAX} s")
            time.sleep(POLL_SECONDS)
        place = record_place(settings, charges[0])
        assert place is not None, "Kafka keeps metered records for longer than the month"
        data = {"record": place, "reason": reason, **({"credits": part} if part else {})}
        yield _command("reverse", account, f"{event_id}-reverse", data, key)


def _outcome_name(outcome: Outcome) -> str:
    return (
        "command" if outcome.kind == "command_result" else str(outcome.record.get("outcome", "dead_letter"))
    )


def disagreements(run: DemoRun, stored: Mapping[str, Decimal]) -> list[str]:
    """Where the page, the stream and ClickHouse do not say the same. Empty, or something is wrong."""
    found: list[str] = []
    for example in EXAMPLES:
        record = run.outcome_of(f"{run.name}-{example.name}").record
        if record.get("credits") is None or Decimal(record["credits"]) != example.credits:
            found.append(f"{example.what}: expected {example.credits} credits, got {record.get('credits')}")
    charged = run.credits_by_service()
    for service in sorted(charged.keys() | stored.keys()):
        told, kept = charged.get(service, Decimal(0)), stored.get(service, Decimal(0))
        if told != kept:
            found.append(f"{service}: the stream charged {told}, ClickHouse has {kept}")
    return found
