"""The demonstration: real usage through the producer path, answered by the stream, stored, and reconciled.

Everything is made from one seed. A run has accounts of its own (`demo-team`, then `demo2-team`, …), so that its
figures are the same whatever was there before.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

import orjson

from pipeline.client.commands import CommandKey, signed, unsigned_command
from pipeline.client.events import encode, usage_event
from pipeline.client.origin import now_text
from pipeline.client.outcomes import Outcome, OutcomeReader
from pipeline.client.publisher import Publisher
from pipeline.load.usage import SHARES, templates
from pipeline.settings import Settings

SEED: Final = 20261123
SEEDED_EVENTS: Final = 300
RUNS_MAX: Final = 1000
SOURCE: Final = "/services/demo"
SQUARE: Final = {"width": 1024, "height": 1024}


class Example(NamedTuple):
    """A worked example of the product page: what the page says that it costs, as one number."""

    name: str
    what: str
    service: str
    data: dict[str, Any]
    credits: Decimal


EXAMPLES: Final = (
    Example("medium", "1 medium 1:1 image", "image_generation", {"quality": "medium", **SQUARE}, Decimal(1)),
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


@dataclass(frozen=True, slots=True)
class DemoAccount:
    name: str
    plan: str
    prepaid: str
    """Credits of a prepaid grant; empty where it has none."""
    share: int
    """Of the seeded usage, in percent."""


ACCOUNTS: Final = (
    DemoAccount("team", "pro", "", 67),
    DemoAccount("shop", "prepaid", "1500", 29),
    DemoAccount("hobby", "free", "", 4),
)


class Event(NamedTuple):
    name: str
    key: bytes | None
    value: bytes


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What was published and what became of it, in the order of publishing."""

    name: str
    accounts: tuple[str, ...]
    events: tuple[Event, ...]
    outcomes: tuple[Outcome, ...]

    def outcome_of(self, name: str) -> Outcome:
        """The outcome of the first event with this name."""
        return next(
            outcome for event, outcome in zip(self.events, self.outcomes, strict=True) if event.name == name
        )

    def counts(self) -> dict[str, int]:
        """Events by outcome."""
        return dict(Counter(_outcome_name(outcome) for outcome in self.outcomes))

    def credits_by_service(self) -> dict[str, Decimal]:
        """What the stream charged, from its own answers: to be compared with ClickHouse."""
        charged: dict[str, Decimal] = {}
        for kind, record in self.outcomes:
            if kind == "metered_record":
                before = charged.get(record["service"], Decimal(0))
                charged[record["service"]] = before + Decimal(record["credits"])
        return charged


def run_demo(settings: Settings, key: CommandKey, *, say: Callable[[str], None]) -> DemoRun:
    """Open accounts, publish everything, and wait until the stream has answered all of it."""
    with Publisher(settings) as publisher, OutcomeReader(settings) as reader:
        name = _open_accounts(publisher, reader, key)
        say(f"  ✓ accounts {', '.join(f'{name}-{each.name}' for each in ACCOUNTS)} are open")
        events = tuple(_events(name))
        positions = publisher.publish_all([(event.key, event.value) for event in events])
        say(f"  ✓ {len(events)} events published")
        outcomes = reader.wait(positions)
        say(f"  ✓ {len(outcomes)} outcomes came back")
    accounts = tuple(f"{name}-{each.name}" for each in ACCOUNTS)
    return DemoRun(name, accounts, events, tuple(outcomes[position] for position in positions))


def _open_accounts(publisher: Publisher, reader: OutcomeReader, key: CommandKey) -> str:
    """The first run name whose accounts nobody has opened yet; they are open now, with their credits."""
    for number in count(1):
        name = "demo" if number == 1 else f"demo{number}"
        commands = [signed(command, key) for command in _commands(name)]
        positions = publisher.publish_all([encode(command) for command in commands])
        outcomes = reader.wait(positions)
        records = [outcomes[position].record for position in positions]
        if all(record.get("outcome") == "accepted" for record in records):
            return name
        taken = [record for record in records if record.get("reason") in {"account_exists", "grant_exists"}]
        again = [record for record in records if record.get("outcome") == "duplicate"]
        if not (taken or again) or number == RUNS_MAX:
            raise AssertionError(f"expected accounts {name}-* to be opened, got {records!r}")
    raise AssertionError("count has no end")


def _commands(name: str) -> Iterator[dict[str, Any]]:
    for each in ACCOUNTS:
        account, now = f"{name}-{each.name}", now_text()
        yield unsigned_command(
            "open",
            account=account,
            command_id=f"{account}-open",
            source=SOURCE,
            time=now,
            data={"plan": each.plan},
        )
        if each.prepaid:
            data = {"grant_id": f"{account}-pack", "kind": "prepaid", "credits": each.prepaid}
            yield unsigned_command(
                "grant", account=account, command_id=f"{account}-pack", source=SOURCE, time=now, data=data
            )


def _events(name: str) -> Iterator[Event]:
    """The examples, the seeded usage, and what goes wrong in every real stream."""
    now = now_text()
    for example in EXAMPLES:
        yield _event(f"{name}-{example.name}", f"{name}-team", example.service, example.data, now)
    yield from _seeded(name, now)
    resent = next(example for example in EXAMPLES if example.name == EXPLAINED)
    yield _event(f"{name}-{resent.name}", f"{name}-team", resent.service, resent.data, now)
    yield _event(f"{name}-too-much", f"{name}-hobby", "background_removal", {"images": 40}, now)
    yield Event(f"{name}-malformed", f"{name}-team".encode(), b'{"specversion": "1.0", "id": ')


def _seeded(name: str, now: str) -> Iterator[Event]:
    random = Random(SEED)  # noqa: S311  (a demonstration must repeat, not be secret)
    pieces = templates()
    services, accounts = list(SHARES), [each.name for each in ACCOUNTS]
    for number in range(1, SEEDED_EVENTS + 1):
        [service] = random.choices(services, list(SHARES.values()))
        [account] = random.choices(accounts, [each.share for each in ACCOUNTS])
        data = orjson.loads(random.choice(pieces[service]).data_json)
        yield _event(f"{name}-{number:03d}", f"{name}-{account}", service, data, now)


def _event(event_id: str, account: str, service: str, data: dict[str, Any], now: str) -> Event:
    event = usage_event(service, account=account, event_id=event_id, source=SOURCE, time=now, data=data)
    return Event(event_id, *encode(event))


def _outcome_name(outcome: Outcome) -> str:
    return "dead_letter" if outcome.kind == "dead_letter" else str(outcome.record["outcome"])


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
