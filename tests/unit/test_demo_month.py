"""The demonstration's month: the same figures at every start, whatever the day; and something for every screen."""

from collections import Counter
from decimal import Decimal
from functools import cache

import pytest

from pipeline.client.commands import CommandKey
from pipeline.demo.month import DAYS, Planned, month
from pipeline.demo.run import REVERSED
from pipeline.domain.instants import DAY_MS, parse_instant
from pipeline.load.usage import SHARES
from tests.builders import KEY_ID, SECRET, Partition, Record

KEY = CommandKey(KEY_ID, SECRET)
NOWS = ("2026-11-28T17:00:00Z", "2027-03-01T00:30:00Z")
"""After a month of thirty-one days, and after one of twenty-eight."""


def records(now: str) -> list[Planned]:
    return month("demo", KEY, parse_instant(now), dated=True)


@cache
def folded(now: str) -> Partition:
    partition, at = Partition(), parse_instant(now)
    planned = enumerate(records(now))
    partition.apply(
        partition.run(Record(offset, at - each.ago_ms, each.key, each.value) for offset, each in planned)
    )
    return partition


def outcomes(partition: Partition) -> Counter[str]:
    usage = Counter(f"{each['outcome']} {each['reason']}".strip() for each in partition.of("metered-records"))
    return usage + Counter(f"dead {each['reason']}" for each in partition.of("dead-letters"))


@pytest.mark.parametrize("now", NOWS)
def test_every_start_gives_the_same_figures(now: str) -> None:
    partition = folded(now)
    assert [partition.balance(f"demo-{each}") for each in ("team", "shop", "hobby")] == ["317", "37", "5"]
    assert outcomes(partition) == {
        "metered": 586,
        "denied plan_paused": 1,
        "duplicate duplicate": 1,
        "dead late": 3,
        "dead too_late": 1,
        "dead conflict": 1,
        "dead unknown_account": 1,
        "dead invalid_data": 1,
    }


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert records(NOWS[0]) == records(NOWS[0])


def test_the_month_has_usage_on_each_of_its_days() -> None:
    assert {each.ago_ms // DAY_MS for each in records(NOWS[0])} >= set(range(DAYS))


def test_commands_are_all_accepted() -> None:
    answers = folded(NOWS[0]).of("command-results")
    assert {(each["outcome"], each["reason"]) for each in answers} == {("accepted", "")}


def test_there_is_something_for_every_screen() -> None:
    partition = folded(NOWS[0])
    alerts = {(each["account_id"], each["kind"], each["threshold"]) for each in partition.of("alerts")}
    assert alerts == {
        ("demo-team", "limit_reached", None),
        *(("demo-team", "threshold", percent) for percent in (80, 100)),
        *(("demo-shop", "threshold", percent) for percent in (80, 100)),
        ("demo-hobby", "threshold", 80),
    }
    entries = Counter(each["kind"] for each in partition.of("ledger-entries"))
    assert entries == {"usage": 586, "grant": 5, "overage": 4}
    assert {each["service"] for each in partition.of("metered-records")} == set(SHARES)
    [order] = partition.of("topup-orders")
    assert (order["account_id"], order["pack"]) == ("demo-shop", "credits-1000")
    [statement] = partition.of("statements")
    assert (statement["account_id"], statement["used"]) == ("demo-team", "50")


def test_what_is_taken_back_was_charged() -> None:
    charged = {each["event_id"]: Decimal(each["credits"]) for each in folded(NOWS[0]).of("metered-records")}
    assert all(charged[f"demo-{event}"] >= Decimal(part or "1") for event, part, _ in REVERSED)


def test_on_a_log_in_use_the_producers_clocks_stay_within_the_hot_window() -> None:
    now = parse_instant(NOWS[0])
    partition = Partition()
    planned = enumerate(month("demo2", KEY, now, dated=False))
    partition.apply(partition.run(Record(offset, now, each.key, each.value) for offset, each in planned))
    assert outcomes(partition)["dead late"] == 3
    assert {each["outcome"] for each in partition.of("command-results")} == {"accepted"}
