"""Generate a load from a seed: account commands first, then usage with everything that can go wrong in it.

The accounts of a load are used with Zipf-like skew. Most are given about twice what they will use, some
run dry on purpose. Nothing here reads a clock: `base_ms` is the producers' time, and must be near the
acceptance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Final

import orjson

from pipeline.load.broken import Victim, spoiled
from pipeline.load.orders import TOPUPS, Orders
from pipeline.load.record import STRUCTURED, CommandKey, LoadRecord, account_id, command, instant
from pipeline.load.usage import SHARES, UsageTemplate, templates

__all__ = ["CommandKey", "LoadPlan", "LoadRecord", "generate"]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
MEAN_CREDITS: Final = 9
"""About what one event costs over the whole mix, batches included: sizes the grants."""
DRAW_EVENTS: Final = 4096
"""Accounts and templates are drawn this many at a time: much cheaper than one by one."""
RESEND_MEMORY_EVENTS: Final = 20_000
"""Events remembered for resends and conflicts; an older one gives way at random."""
PACE_EVENTS: Final = 20
"""The producers' clock moves on by a millisecond after so many events."""
JITTER_MS: Final = 50_000
TOPUP_ACCOUNTS: Final = 3
"""Every third account buys packs from the start, where accounts do so at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What decides every byte of a load."""

    seed: int
    events: int
    """Usage records, the duplicates, conflicts and malformed ones among them. Commands come on top."""
    accounts: int
    """That use something."""
    base_ms: int
    """The producers' clock at the first event, in epoch milliseconds: at or just before its acceptance."""
    plans: tuple[str, ...] = ("free",)
    duplicate_share: float = 0.01
    conflict_share: float = 0.001
    malformed_share: float = 0.005
    binary_share: float = 0.02
    """Of events sent in Kafka's binary mode."""
    dry_share: float = 0.02
    """Of accounts that are given far less than they will use."""
    top_up_share: float = 0.0005
    """Of events that are preceded by one more grant to their account."""
    hold_share: float = 0.003
    """Of events that are preceded by a hold on their account, and mostly by its capture."""
    change_share: float = 0.0005
    """Of events that are preceded by another plan or other settings of any account, now and then by its closure."""
    lie_share: float = 0
    """Of events whose producer's clock is wrong, by hours into the past or minutes into the future."""
    late_share: float = 0
    """Of events that come later than the hot window, and are put back by the late lane."""
    topups: bool = False
    """Whether some accounts buy packs by themselves."""
    skew: float = 1.0
    """The exponent of Zipf's law; 0 uses all accounts alike."""
    idle_accounts: int = 0
    """Opened beside the others, and never used."""

    def thresholds(self) -> tuple[float, ...]:
        """The shares one upon the other, in the order malformed, duplicate, conflict, top-up, hold, change, binary."""
        faults = (self.malformed_share, self.duplicate_share, self.conflict_share)
        commands = (self.top_up_share, self.hold_share, self.change_share)
        return tuple(accumulate((*faults, *commands, self.binary_share)))


def generate(plan: LoadPlan, key: CommandKey) -> Iterator[LoadRecord]:
    """The whole load, in the order in which it is to be published."""
    assert plan.events >= 0
    assert plan.accounts >= 1
    assert plan.plans
    weights = [1 / (rank + 1) ** plan.skew for rank in range(plan.accounts)]
    random = Random(plan.seed)  # noqa: S311  (a load must repeat, not be secret)
    yield from _opening(plan, key, [*weights, *[0.0] * plan.idle_accounts], random)
    yield from _usage(plan, key, weights, random)


def _opening(plan: LoadPlan, key: CommandKey, weights: list[float], random: Random) -> Iterator[LoadRecord]:
    total = sum(weights)
    for number, weight in enumerate(weights):
        account = account_id(number)
        opened = {"plan": plan.plans[number % len(plan.plans)]}
        yield command(key, "open", account, id=f"open-{account}", time_ms=plan.base_ms, data=opened)
        if plan.topups and number % TOPUP_ACCOUNTS == 0:
            buys = {"auto_topup": TOPUPS[-1 - number % 2]}
            yield command(key, "configure", account, id=f"buys-{account}", time_ms=plan.base_ms, data=buys)
        expected = int(plan.events * weight / total * MEAN_CREDITS)
        if random.random() < plan.dry_share:
            continue
        for data in _grants(plan, account, expected, random):
            yield command(
                key, "grant", account, id=f"issue-{data['grant_id']}", time_ms=plan.base_ms, data=data
            )


def _grants(plan: LoadPlan, account: str, expected: int, random: Random) -> list[dict[str, Any]]:
    """Prepaid for twice the expected use; now and then a promotion, one with an odd amount, one for later."""
    prepaid = {"grant_id": f"{account}/prepaid-1", "kind": "prepaid", "credits": str(2 * expected + 50)}
    grants = [{**prepaid, "source": "order-1"}]
    if random.random() < 0.3:
        expires = instant(plan.base_ms + random.randint(2, 60) * DAY_MS)
        grants.append(
            {
                "grant_id": f"{account}/promo-1",
                "kind": "promotional",
                "credits": f"{random.randint(1, 40)}.{random.randint(1, 999_999):06d}",
                "expires_at": expires,
            }
        )
    if random.random() < 0.1:
        effective = instant(plan.base_ms + 10 * DAY_MS)
        later = {"grant_id": f"{account}/prepaid-2", "kind": "prepaid", "credits": "1000"}
        grants.append({**later, "effective_at": effective})
    return grants


def _usage(plan: LoadPlan, key: CommandKey, weights: list[float], random: Random) -> Iterator[LoadRecord]:
    writer, orders = _Writer(plan, random), Orders(key, random, topups=plan.topups)
    malformed, duplicate, conflict, _, _, orders_end, binary = plan.thresholds()
    assert binary <= 1, f"expected shares that add up to 1 at most, got {binary}"
    for number, (account, template) in enumerate(_draws(plan, weights, random)):
        chance = random.random()
        if chance >= binary:
            yield writer.usage(number, account, template, writer.claimed_time(number, 1 - chance))
        elif chance < malformed:
            yield writer.malformed(number, account)
        elif chance < duplicate and writer.sent:
            yield random.choice(writer.sent)
        elif chance < conflict and writer.sent:
            yield writer.conflict()
        elif chance < orders_end:
            yield from _ordered(plan, orders, chance, writer.cause(number), (account, template))
            yield writer.usage(number, account, template, writer.time(number))
        else:
            yield writer.binary(number, account, template)


def _ordered(
    plan: LoadPlan, orders: Orders, chance: float, cause: tuple[str, int], drawn: tuple[str, UsageTemplate]
) -> Iterator[LoadRecord]:
    """The commands that precede a usage event; `chance` says which."""
    *_, top_up, hold, _, _ = plan.thresholds()
    if chance < top_up:
        yield orders.top_up(drawn[0], *cause)
    elif chance < hold:
        yield from orders.hold(*drawn, *cause)
    else:
        yield orders.change(orders.anyone(plan.accounts), *cause)


def _draws(plan: LoadPlan, weights: list[float], random: Random) -> Iterator[tuple[str, UsageTemplate]]:
    accounts = [account_id(number) for number in range(plan.accounts)]
    cumulative = list(accumulate(weights))
    by_service = templates()
    pool = [each for of_service in by_service.values() for each in of_service]
    # A service's share is spread over its templates, however many they are.
    shares = list(accumulate(SHARES[each.service] / len(by_service[each.service]) for each in pool))
    for first in range(0, plan.events, DRAW_EVENTS):
        count = min(DRAW_EVENTS, plan.events - first)
        yield from zip(
            random.choices(accounts, cum_weights=cumulative, k=count),
            random.choices(pool, cum_weights=shares, k=count),
            strict=True,
        )


class _Writer:
    """Turns draws into records, and remembers some of them for resends."""

    def __init__(self, plan: LoadPlan, random: Random) -> None:
        self.plan = plan
        self.random = random
        self.sent: list[LoadRecord] = []
        self.spoiled = 0
        self.pace = -1
        self.times: list[str] = []

    def usage(self, number: int, account: str, template: UsageTemplate, time: str) -> LoadRecord:
        value = (
            f'{{"specversion":"1.0","id":"{self.event_id(number)}","source":"{template.source}",'
            f'"type":"{template.type}","subject":"{account}","time":"{time}",'
            '"datacontenttype":"application/json","data":'
        ).encode()
        return self.remember(LoadRecord(account.encode(), value + template.data_json + b"}", STRUCTURED))

    def binary(self, number: int, account: str, template: UsageTemplate) -> LoadRecord:
        attributes = {
            "specversion": "1.0",
            "id": self.event_id(number),
            "source": template.source,
            "type": template.type,
            "subject": account,
            "time": self.time(number),
        }
        headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
        with_type = (("content-type", b"application/json"), *headers)
        return self.remember(LoadRecord(account.encode(), template.data_json, with_type))

    def malformed(self, number: int, account: str) -> LoadRecord:
        self.spoiled += 1
        return spoiled(Victim(account, self.event_id(number), self.pace_ms(number)), self.spoiled - 1)

    def conflict(self) -> LoadRecord:
        """An earlier id with other content: one image more."""
        earlier = self.random.choice(self.sent)
        event = orjson.loads(earlier.value)
        data = event["data"] if earlier.headers is STRUCTURED else event
        data["images"] = data.get("images", 1) + 1
        return earlier._replace(value=orjson.dumps(event))

    def event_id(self, number: int) -> str:
        return f"use-{self.plan.seed}-{number:09d}"

    def cause(self, number: int) -> tuple[str, int]:
        """What the names of commands at this event end with, and their time."""
        return f"{self.plan.seed}-{number}", self.pace_ms(number)

    def pace_ms(self, number: int) -> int:
        return self.plan.base_ms + number // PACE_EVENTS

    def time(self, number: int) -> str:
        """Up to `JITTER_MS` before the pace: services' clocks differ, and their events come out of order."""
        pace = number // PACE_EVENTS
        if pace != self.pace:
            self.pace = pace
            first = self.plan.base_ms + pace
            self.times = [instant(first - self.random.randrange(JITTER_MS)) for _ in range(4)]
        return self.times[number % 4]

    def claimed_time(self, number: int, chance: float) -> str:
        """What the producer's clock says: right, wrong, or of days ago."""
        if chance <= self.plan.late_share:
            return self.late_time(number)
        wrong = chance <= self.plan.late_share + self.plan.lie_share
        return self.wrong_time(number) if wrong else self.time(number)

    def wrong_time(self, number: int) -> str:
        """Still accepted by the default windows: 72 hours back, 5 minutes ahead."""
        return instant(self.pace_ms(number) + self.random.randint(-70 * HOUR_MS, 4 * MINUTE_MS))

    def late_time(self, number: int) -> str:
        """Beyond the hot window of 72 hours by default, within the late window of 35 days."""
        return instant(self.pace_ms(number) - self.random.randint(73 * HOUR_MS, 30 * DAY_MS))

    def remember(self, record: LoadRecord) -> LoadRecord:
        if len(self.sent) < RESEND_MEMORY_EVENTS:
            self.sent.append(record)
        else:
            self.sent[self.random.randrange(RESEND_MEMORY_EVENTS)] = record
        return record
