"""An account's state stays small: used-up grants leave it, and everything else in it has a limit."""

from random import Random
from typing import Any

import pytest

from pipeline.domain import used_up
from pipeline.domain.account import REVERSAL_DAYS_MAX, BilledOverage, Hold, Reversed, UsedUp
from pipeline.domain.credits import Credits
from pipeline.domain.grants import GRANT_MICROS_MAX, GRANTS_MAX, Grant, GrantId, GrantShare
from pipeline.domain.holds import HOLD_SHARES_MAX, HOLDS_MAX
from pipeline.domain.instants import DAY_MS, Instant, format_instant
from pipeline.domain.reversals import REVERSALS_MAX
from pipeline.domain.usage import AccountId
from pipeline.state import decode_account, encode_account
from pipeline.validate_command import THRESHOLD_PERCENT_MAX
from schemas.topics import RECORD_BYTES_MAX
from tests.builders import (
    NOON,
    TICK,
    Partition,
    command,
    issue_grant,
    micros,
    open_account,
    usage,
)

LATER = NOON + (REVERSAL_DAYS_MAX + 1) * DAY_MS
ROW_BYTES_MAX = 4096
"""Of an account that does everything, for years (pipeline/README.md)."""
LARGEST_ROW_BYTES = 1_500_000
"""Of one that is at all limits at once, with the longest names."""


def opened(*grants: str) -> Partition:
    partition = Partition()
    given = [issue_grant(amount, grant_id=f"g{number}") for number, amount in enumerate(grants)]
    partition.fold(open_account("prepaid"), *given)
    return partition


def use(partition: Partition, images: int, at: int = NOON) -> int:
    """Returns where it stands in the log."""
    offset = partition.cursor.next_offset if partition.cursor else 0
    partition.fold(usage("image_analysis", event_id=f"e{offset}", images=images, at=at), at=at)
    return offset


def give(partition: Partition, name: str = "new", credits: str = "10", at: int = NOON) -> str:
    (answer, *_) = [
        each for each in partition.fold(issue_grant(credits, grant_id=name, at=at), at=at) if "reason" in each
    ]
    return str(answer["reason"])


def reverse(partition: Partition, offset: int, at: int) -> dict[str, Any]:
    record = {"partition": 0, "offset": 0, "event_offset": offset}
    event = command("reverse", {"record": record}, command_id=f"r{offset}", at=at)
    return next(each for each in partition.fold(event, at=at) if "command_id" in each)


def test_what_is_used_up_leaves_when_no_charge_that_it_paid_can_be_taken_back() -> None:
    partition = opened("10", "20")
    use(partition, 10)
    give(partition)
    assert set(partition.left()) == {"g0", "g1", "new"}
    give(partition, "later", at=LATER - DAY_MS)
    assert "g0" in partition.left()
    give(partition, "last", at=LATER)
    assert set(partition.left()) == {"g1", "new", "later", "last"}


def test_a_period_that_begins_is_looked_at_too() -> None:
    partition = opened("10", "20")
    use(partition, 10)
    partition.fold(TICK, at=NOON + 31 * DAY_MS)
    assert "g0" in partition.left()
    partition.fold(TICK, at=NOON + 92 * DAY_MS)
    assert set(partition.left()) == {"g1"}


def test_a_reversal_within_its_days_finds_every_grant_that_paid() -> None:
    partition = opened("10", "20")
    charge = use(partition, 30)
    give(partition)
    last = NOON + REVERSAL_DAYS_MAX * DAY_MS
    give(partition, "again", at=last)
    assert reverse(partition, charge, last)["reversal"]["returned"] == "30"
    assert (partition.left()["g0"], partition.left()["g1"]) == (micros("10"), micros("20"))


def test_what_was_filled_again_waits_anew() -> None:
    partition = opened("10", "20")
    charge = use(partition, 10)
    give(partition)
    reverse(partition, charge, NOON + DAY_MS)
    again = use(partition, 10, NOON + 20 * DAY_MS)
    give(partition, "later", at=LATER)
    assert reverse(partition, again, LATER)["reversal"]["returned"] == "10"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used_up, "GRANTS_MAX", 3)


@pytest.mark.usefixtures("narrow")
def test_where_there_is_no_place_the_longest_used_up_makes_it_and_a_reversal_into_it_says_expired() -> None:
    partition = opened("10", "20", "30")
    charge = use(partition, 10)
    assert give(partition, "new") == ""
    assert set(partition.left()) == {"g1", "g2", "new"}
    told = reverse(partition, charge, NOON)["reversal"]
    assert (told["returned"], told["expired"]) == ("0", "10")
    assert partition.balance() == "60"


@pytest.mark.usefixtures("narrow")
def test_what_an_open_hold_remembers_is_not_used_up() -> None:
    partition = opened("10", "20", "30")
    partition.fold(command("hold", {"hold_id": "h", "credits": "10"}, command_id="h"))
    assert give(partition, "new") == "too_many_grants"
    partition.fold(command("release", {"hold_id": "h"}, command_id="r"))
    assert partition.left()["g0"] == micros("10")


@pytest.mark.usefixtures("narrow")
def test_a_grant_is_refused_when_all_that_there_are_have_something_left() -> None:
    partition = opened("10", "20", "30")
    assert give(partition, "new") == "too_many_grants"
    upgrade = command("change_plan", {"plan": "starter"}, command_id="up")
    assert partition.fold(upgrade)[-1]["reason"] == "too_many_grants"


@pytest.mark.usefixtures("narrow")
def test_no_order_is_made_that_could_not_be_granted() -> None:
    partition = opened("10", "20", "30")
    chosen = {"threshold": "100", "pack": "credits-100", "credits_max_per_period": "900"}
    partition.fold(command("configure", {"auto_topup": chosen}, command_id="set"))
    use(partition, 1)
    assert partition.of("topup-orders") == []
    use(partition, 9)
    assert len(partition.of("topup-orders")) == 1
    assert give(partition, "before-the-answer") == "too_many_grants"
    answer = command("topup_result", {"order": 1, "result": "succeeded"}, command_id="t")
    assert partition.fold(answer)[-1]["outcome"] == "accepted"
    assert set(partition.left()) == {"g1", "g2", "topup:1"}


def test_holds_that_took_from_too_many_grants_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.domain.hold_commands.HOLD_SHARES_MAX", 3)
    partition = opened("10", "20", "30", "40")

    def hold(name: str, credits: str) -> str:
        event = command("hold", {"hold_id": name, "credits": credits}, command_id=name)
        return str(partition.fold(event)[-1]["reason"])

    assert (hold("two", "30"), hold("two-more", "31"), hold("one", "30")) == ("", "too_many_holds", "")
    assert partition.of("balances")[-1]["held"] == "60"


def test_the_base_of_a_prepaid_account_has_what_is_used_up_until_that_leaves() -> None:
    """Of its active grants, original amounts: 100 used of 100; then 100 of 200; once it has left, 80 of 100."""
    partition = opened("100")
    use(partition, 100)
    give(partition, credits="100")
    use(partition, 60)
    assert [(each["threshold"], each["used"], each["base"]) for each in partition.of("alerts")] == [
        (100, "100", "100"),
        (80, "160", "200"),
    ]
    for days in (31, 62, 92):
        partition.fold(TICK, at=NOON + days * DAY_MS)
    assert len(partition.of("alerts")) == 2  # A base that shrinks fires nothing.
    use(partition, 20, NOON + 92 * DAY_MS)
    assert [(each["used"], each["base"]) for each in partition.of("alerts")[2:]] == [("80", "100")]


def test_years_of_everything_leave_a_small_row() -> None:
    """Two years: usage, packs bought and declined, holds, reversals, grants to come, plans, overage, alerts."""
    partition, random = Partition(), Random(7)
    chosen = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "100000"}
    settings = {"auto_topup": chosen, "overage_ceiling": "1000"}
    partition.fold(open_account("starter"), command("configure", settings, command_id="set"))
    largest, orders, charged = 0, 0, list[int]()
    for step in range(1, 365):
        at = NOON + 2 * step * DAY_MS
        assert partition.cursor is not None
        offset = partition.cursor.next_offset
        charged.append(offset)
        answers = [_paid(order["order_number"], step, at) for order in partition.of("topup-orders")]
        partition.said = [each for each in partition.said if "metered" in each[0]][-70:]
        images = usage("image_analysis", event_id=f"e{offset}", images=200, at=at)
        partition.fold(images, *answers, *_chores(random, step, charged, at), at=at)
        orders += len(answers)
        largest = max(largest, len(partition.accounts[b"acct"]))
    assert orders > 60
    assert ROW_BYTES_MAX / 2 < largest <= ROW_BYTES_MAX


def _paid(order: int, step: int, at: int) -> dict[str, Any]:
    result = {"order": order, "result": "declined" if step % 9 == 0 else "succeeded"}
    return command("topup_result", result, command_id=f"t{order}", at=at)


def _chores(random: Random, step: int, charged: list[int], at: int) -> list[dict[str, Any]]:
    record = {"partition": 0, "offset": 0, "event_offset": charged[-random.randint(1, min(step, 15))]}
    begins, ends = (format_instant(at + days * DAY_MS) for days in (random.randint(1, 20), 60))
    later = {"kind": "goodwill", "credits": "3", "effective_at": begins, "expires_at": ends}
    orders: list[tuple[str, dict[str, Any], float]] = [
        ("hold", {"hold_id": f"h{step}", "credits": "5", "seconds": 86_400}, 0.5),
        ("reverse", {"record": record, "credits": "1"}, 0.5),
        ("grant", {"grant_id": f"g{step}", **later}, 0.3),
        ("configure", {"alert_thresholds": sorted(random.sample(range(1, 200), 3))}, 0.5),
        ("change_plan", {"plan": random.choice(["starter", "starter", "pro"])}, 0.02),
    ]
    return [
        command(name, data, command_id=f"{name}{step}", at=at)
        for name, data, chance in orders
        if random.random() < chance
    ]


def test_the_largest_row_that_the_limits_allow_is_far_below_a_record_of_kafka() -> None:
    name, book, at = "n" * 128, "b" * 64, Instant(NOON)
    amount = Credits(GRANT_MICROS_MAX)
    grants = tuple(
        [Grant(GrantId(name), "promotional", 100, amount, at, at, at, "\U0001f4b6" * 256)] * GRANTS_MAX
    )
    shares = (GrantShare(GrantId(name), amount),) * (HOLD_SHARES_MAX // HOLDS_MAX)
    partition = opened()
    account = decode_account(AccountId("acct"), partition.accounts[b"acct"])._replace(
        grants=grants,
        remaining=(amount,) * GRANTS_MAX,
        used_up=(UsedUp(GrantId(name), at),) * GRANTS_MAX,
        holds=(Hold(name, amount, shares, book, at),) * HOLDS_MAX,
        reversals=(Reversed(2**53, at, amount),) * REVERSALS_MAX,
        billed=(BilledOverage(2**53, at, "0.000001", "EUR", amount),) * 3,
        alerted=tuple(range(THRESHOLD_PERCENT_MAX + 1)),
    )
    assert len(encode_account(account)) <= LARGEST_ROW_BYTES < RECORD_BYTES_MAX / 2
