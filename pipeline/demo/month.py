"""The thirty days of the demonstration: every record of three accounts before today, from one seed.

`team` is on a monthly plan and near 80 %, `shop` lives on prepaid packs, went into overage once and buys by itself,
`hobby` is free and near its limit. Instants are so far before the run; nothing falls on a day that has other lengths
in other months, so every run has the same figures.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final, NamedTuple

import orjson

from pipeline.client.commands import CommandKey, signed, unsigned_command
from pipeline.client.events import encode, usage_event, usage_type
from pipeline.domain.instants import DAY_MS, HOUR_MS, format_instant
from pipeline.load.usage import SHARES, UsageTemplate, templates
from pipeline.pricing import Pricing
from pipeline.settings import RuleSettings

SEED: Final = 20261123
DAYS: Final = 30
SOURCE: Final = "/services/demo"
SQUARE: Final = {"width": 1024, "height": 1024}
ONE_CREDIT: Final = {"quality": "medium", **SQUARE}
COMPRESSED: Final = 12
"""Where accepted instants cannot be in the past, the producers' clocks say that the month was this much shorter:
within the hot window of 72 hours."""
MINUTE_MS: Final = 60_000
CREDITS_OF_AN_EVENT_MAX: Final = 24
WEEK: Final = (80, 95, 100, 85, 75, 35, 30)
"""Credits of `team` on the days of a week, so that the chart breathes."""
LATE_DAYS: Final = (8, 12, 25)
TOO_LATE_DAYS: Final = 40
ACCOUNTS: Final = ("team", "shop", "hobby")
Data = Mapping[str, Any]


class Planned(NamedTuple):
    """One record of the input log."""

    ago_ms: int
    """Before the run."""
    name: str
    """Of the event or command: its id, as far as it has one."""
    key: bytes | None
    value: bytes


def month(name: str, key: CommandKey, now_ms: int, *, dated: bool) -> list[Planned]:
    """All records in their order. `dated`: they will be accepted at the instants that they say."""
    writer = _Writer(name, key, now_ms, dated=dated)
    records = [*_team(writer), *_shop(writer), *_hobby(writer), *_wrong(writer)]
    return sorted(
        records, key=lambda record: -record.ago_ms
    )  # Stable: what happens at once stays in its order.


class _Writer:
    def __init__(self, name: str, key: CommandKey, now_ms: int, *, dated: bool) -> None:
        self.name = name
        self._key, self._now_ms, self._dated = key, now_ms, dated

    def said(self, ago_ms: int) -> str:
        """What a producer's clock said then."""
        return format_instant(self._now_ms - (ago_ms if self._dated else ago_ms // COMPRESSED))

    def usage(
        self, ago_ms: int, event_id: str, account: str, service: str, data: Data, occurred_days: int = 0
    ) -> Planned:
        time = (
            format_instant(self._now_ms - occurred_days * DAY_MS)
            if occurred_days
            else self.said(ago_ms + 700)
        )
        event = usage_event(
            service,
            account=f"{self.name}-{account}",
            event_id=f"{self.name}-{event_id}",
            source=SOURCE,
            time=time,
            data=data,
        )
        return Planned(ago_ms, event["id"], *encode(event))

    def command(self, ago_ms: int, kind: str, account: str, command_id: str, data: Data) -> Planned:
        event = unsigned_command(
            kind,
            account=f"{self.name}-{account}",
            command_id=f"{self.name}-{command_id}",
            source=SOURCE,
            time=self.said(ago_ms),
            data=data,
        )
        return Planned(ago_ms, event["id"], *encode(signed(event, self._key)))

    def captured(self, ago_ms: int, hold: str, account: str, data: Data) -> Planned:
        usage = {
            "type": usage_type("image_generation"),
            "id": f"{self.name}-{hold}-done",
            "source": SOURCE,
            "time": self.said(ago_ms + 700),
            "data": dict(data),
        }
        return self.command(ago_ms, "capture", account, f"{hold}-capture", {"hold_id": hold, "usage": usage})


def _team(writer: _Writer) -> Iterator[Planned]:
    """Free for three days and then out of credits; since then on the plan `pro`."""
    yield writer.command(DAYS * DAY_MS, "open", "team", "team-open", {"plan": "free"})
    for number in range(1, 27):  # 50 of 50 credits, and two that are too many.
        two = {"quality": "high", **SQUARE}
        ago = DAYS * DAY_MS - number * 2 * HOUR_MS
        yield writer.usage(ago, f"team-free-{number:02d}", "team", "image_generation", two)
    yield writer.command(27 * DAY_MS, "change_plan", "team", "team-upgrade", {"plan": "pro"})
    budgets = [WEEK[day % len(WEEK)] for day in range(27)]
    yield from _drawn(writer, "team", budgets, Random(SEED))  # noqa: S311  (must repeat, not be secret)
    yield from _holds(writer)
    for number, days in enumerate(LATE_DAYS, 1):
        ago = DAY_MS + number * HOUR_MS
        yield writer.usage(ago, f"late-{number}", "team", "image_generation", ONE_CREDIT, occurred_days=days)


def _holds(writer: _Writer) -> Iterator[Planned]:
    """Captured in whole, in part, given back, and forgotten: that one ends by itself."""
    asked = {"quality": "high", "images": 4, **SQUARE}
    held = {"usage": {"type": usage_type("image_generation"), "data": asked}}
    for number, (days, done) in enumerate(((21, 4), (15, 3), (9, 0), (4, -1)), 1):
        job, ago = f"job-{number}", days * DAY_MS + 11 * HOUR_MS
        yield writer.command(ago, "hold", "team", f"{job}-hold", {"hold_id": job, **held})
        if done > 0:
            yield writer.captured(ago - MINUTE_MS, job, "team", {**asked, "images": done})
        elif done == 0:
            data = {"hold_id": job, "reason": "the model refused"}
            yield writer.command(ago - MINUTE_MS, "release", "team", f"{job}-release", data)


def _shop(writer: _Writer) -> Iterator[Planned]:
    """A pack of 600 that ends on the eighth last day in overage, one of 200, and a top-up when 50 are left."""
    yield writer.command(28 * DAY_MS, "open", "shop", "shop-open", {"plan": "prepaid"})
    yield writer.command(28 * DAY_MS, "grant", "shop", "shop-pack-1", _pack(writer, 1, 600))
    topup = {"threshold": "50", "pack": "credits-1000", "credits_max_per_period": "1000"}
    settings = {"overage_ceiling": "150", "auto_topup": topup}
    yield writer.command(8 * DAY_MS, "grant", "shop", "shop-pack-2", _pack(writer, 2, 200))
    yield writer.command(8 * DAY_MS, "configure", "shop", "shop-topup", settings)
    yield writer.command(28 * DAY_MS, "configure", "shop", "shop-overage", {"overage_ceiling": "150"})
    random = Random(SEED + 1)  # noqa: S311  (as above)
    first = list(_drawn(writer, "shop", [28] * 19, random))
    yield from first
    yield from _drawn(writer, "shop", [13] * 7, random, first_day=8, since=len(first))
    yield writer.usage(2 * MINUTE_MS, "shop-last", "shop", "background_removal", {"images": 20})


def _pack(writer: _Writer, number: int, size: int) -> Data:
    return {"grant_id": f"{writer.name}-pack-{number}", "kind": "prepaid", "credits": str(size)}


def _hobby(writer: _Writer) -> Iterator[Planned]:
    """45 of 50 credits, one at a time."""
    yield writer.command(27 * DAY_MS, "open", "hobby", "hobby-open", {"plan": "free"})
    for number in range(1, 46):
        ago = 27 * DAY_MS - number * 14 * HOUR_MS
        service, data = (
            ("image_analysis", {"languages": ["en"], "channel": "web"})
            if number % 3 == 0
            else ("image_generation", {**ONE_CREDIT, "channel": "web"})
        )
        yield writer.usage(ago, f"hobby-{number:02d}", "hobby", service, data)


def _wrong(writer: _Writer) -> Iterator[Planned]:
    """What goes wrong in every real stream."""
    ago = 6 * DAY_MS + 9 * HOUR_MS
    yield writer.usage(ago, "twice", "team", "image_generation", ONE_CREDIT)
    yield writer.usage(ago - MINUTE_MS, "twice", "team", "image_generation", ONE_CREDIT)
    yield writer.usage(ago - 2 * MINUTE_MS, "twice", "team", "image_generation", {**ONE_CREDIT, "images": 2})
    yield writer.usage(3 * DAY_MS, "unknown", "nobody", "image_analysis", {})
    yield writer.usage(2 * DAY_MS, "no-price", "team", "image_generation", {**ONE_CREDIT, "quality": "ultra"})
    yield writer.usage(
        DAY_MS, "too-late", "team", "image_generation", ONE_CREDIT, occurred_days=TOO_LATE_DAYS
    )


def _drawn(
    writer: _Writer,
    account: str,
    budgets: list[int],
    random: Random,
    *,
    first_day: int = 27,
    since: int = 0,
) -> Iterator[Planned]:
    """Usage of every service: on each day as much as its budget of credits, in working hours mostly."""
    pieces, number = _affordable(), since
    for day, budget in enumerate(budgets):
        drawn: list[tuple[int, UsageTemplate]] = []
        while sum(price for price, _ in drawn) < budget:
            [service] = random.choices(list(SHARES), list(SHARES.values()))
            drawn.append(random.choice(pieces[service]))
        passed = sorted(random.triangular(0, DAY_MS - HOUR_MS, DAY_MS * 0.6) for _ in drawn)
        for at, (_, piece) in zip(passed, drawn, strict=True):
            number += 1
            ago = (first_day - day) * DAY_MS - int(at)
            data = orjson.loads(piece.data_json)
            yield writer.usage(ago, f"{account}-{number:04d}", account, piece.service, data)


def _affordable() -> dict[str, list[tuple[int, UsageTemplate]]]:
    """Pieces of usage by service with their price, the large batches left out."""
    pricing = Pricing(RuleSettings())
    found: dict[str, list[tuple[int, UsageTemplate]]] = {}
    for service, pieces in templates().items():
        for piece in pieces:
            line = orjson.dumps({"type": piece.type, "data": orjson.loads(piece.data_json)})
            price = int(orjson.loads(pricing.answer(1, line))["credits"])
            if price <= CREDITS_OF_AN_EVENT_MAX:
                found.setdefault(service, []).append((price, piece))
    return found
