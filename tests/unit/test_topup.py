"""Automatic top-up: product.md section 3, last row, sentence by sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.instants import DAY_MS, HOUR_MS
from tests.builders import (
    NOON,
    TICK,
    Partition,
    catalog,
    command,
    issue_grant,
    micros,
    open_account,
    publication,
    record,
    usage,
)

CHOSEN = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "300"}


def opened(given: str = "120", **chosen: str) -> Partition:
    """Prepaid, with so many credits, and top-up of 100 below 50, at most 300 a period."""
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant(given), configure(**chosen))
    return partition


def configure(**chosen: str) -> dict[str, Any]:
    command_id = f"set{sorted(chosen.items())}"
    return command("configure", {"auto_topup": {**CHOSEN, **chosen}}, command_id=command_id)


def use(partition: Partition, images: int, at: int = NOON) -> None:
    number = partition.cursor.next_offset if partition.cursor else 0
    partition.fold(usage("image_analysis", event_id=f"e{number}", images=images, at=at), at=at)


def answer(partition: Partition, order: int, result: str = "succeeded", at: int = NOON) -> dict[str, Any]:
    number = partition.cursor.next_offset if partition.cursor else 0
    data = {"order": order, "result": result}
    return partition.fold(command("topup_result", data, command_id=f"t{number}", at=at), at=at)[-1]


def orders(partition: Partition) -> list[int]:
    return [each["order_number"] for each in partition.of("topup-orders")]


@pytest.mark.parametrize(("images", "ordered"), [(70, []), (71, [1])])
def test_below_the_threshold_and_not_at_it_a_pack_is_ordered(images: int, ordered: list[int]) -> None:
    partition = opened()
    use(partition, images)
    assert orders(partition) == ordered


def test_an_order_says_what_is_bought_for_how_much_and_why() -> None:
    partition = opened()
    use(partition, 80)
    (order,) = partition.of("topup-orders")
    names = ("order_id", "pack", "credits", "price", "currency", "threshold", "credits_left", "offset")
    assert [order[name] for name in names] == [
        "acct:topup:1",
        "credits-100",
        "100",
        "5",
        "EUR",
        "50",
        "40",
        3,
    ]


def test_one_crossing_buys_once_whatever_follows_until_the_answer() -> None:
    partition = opened()
    for _ in range(5):
        use(partition, 20)
    assert orders(partition) == [1]


def test_what_was_paid_is_a_prepaid_grant_that_ends_twelve_months_later() -> None:
    partition = opened()
    use(partition, 80)
    assert answer(partition, 1)["balance_after"] == "140"
    assert partition.left() == {"pack": micros("40"), "topup:1": micros("100")}
    (topup,) = [each for each in partition.of("balances")[-1]["grants"] if each["grant_id"] == "topup:1"]
    assert (topup["kind"], topup["expires_at"]) == ("prepaid", "2027-11-23T12:00:00.000Z")


def test_the_next_crossing_buys_again_up_to_the_cap_of_the_period() -> None:
    partition = opened()
    for order in range(1, 4):
        use(partition, 100)
        answer(partition, order)
    use(partition, 100)
    assert orders(partition) == [1, 2, 3]
    use(partition, 1, at=NOON + 31 * DAY_MS)
    assert orders(partition) == [1, 2, 3, 4]


def test_a_hold_an_expiry_and_a_void_are_crossings_too() -> None:
    holding = opened()
    holding.fold(command("hold", {"hold_id": "h", "credits": "80"}, command_id="h"))
    voiding = opened()
    voiding.fold(command("void_grant", {"grant_id": "pack"}, command_id="v"))
    expiring = Partition()
    expiring.fold(open_account("prepaid"), issue_grant("60", expires_at="2026-11-23T13:00:00Z"), configure())
    expiring.fold(TICK, at=NOON + HOUR_MS)
    assert [orders(each) for each in (holding, voiding, expiring)] == [[1], [1], [1]]


def test_after_a_decline_it_waits_longer_each_time_and_then_asks_for_the_same_crossing() -> None:
    partition = opened()
    use(partition, 80)
    at: int = NOON
    for order, hours in ((1, 1), (2, 2), (3, 4)):
        assert answer(partition, order, "declined", at)["outcome"] == "accepted"
        use(partition, 1, at + hours * HOUR_MS - 1)
        assert orders(partition)[-1] == order
        at += hours * HOUR_MS
        use(partition, 1, at)
        assert orders(partition)[-1] == order + 1


def test_the_answer_to_a_decline_says_when_the_next_order_may_come() -> None:
    partition = opened()
    use(partition, 80)
    told = [
        answer(partition, order, "declined", NOON + hours * HOUR_MS)["topup"] for order, hours in ((1, 0),)
    ]
    assert told == [{"order": 1, "result": "declined", "not_before": "2026-11-23T13:00:00.000Z"}]
    partition.fold(TICK, at=NOON + HOUR_MS)
    assert answer(partition, 2, at=NOON + HOUR_MS)["topup"] == {
        "order": 2, "result": "succeeded", "not_before": None,
    }  # fmt: skip


def test_an_idle_account_asks_again_by_a_tick_when_its_back_off_is_over() -> None:
    partition = opened()
    use(partition, 80)
    answer(partition, 1, "declined")
    partition.fold(TICK, at=NOON + HOUR_MS - 1)
    assert orders(partition) == [1]
    partition.fold(TICK, at=NOON + HOUR_MS)
    partition.fold(TICK, at=NOON + HOUR_MS)
    assert orders(partition) == [1, 2]


def test_an_account_that_needs_no_pack_any_more_sleeps_through_the_end_of_its_back_off() -> None:
    partition = opened()
    use(partition, 80)
    answer(partition, 1, "declined")
    partition.fold(issue_grant("100", grant_id="gift"))
    rows = dict(partition.accounts)
    partition.fold(TICK, at=NOON + 2 * HOUR_MS)
    assert (orders(partition), partition.accounts) == ([1], rows)


def test_an_account_that_is_refused_everything_buys_when_its_back_off_is_over() -> None:
    partition = opened("60")
    use(partition, 60)
    answer(partition, 1, "declined")
    use(partition, 5, NOON + HOUR_MS)
    assert orders(partition) == [1, 2]


@pytest.mark.parametrize(
    ("order", "reason"), [(1, "order_answered"), (2, "unknown_order")], ids=["doubled", "unknown"]
)
def test_doubled_late_and_unknown_answers_change_nothing(order: int, reason: str) -> None:
    partition = opened()
    use(partition, 80)
    answer(partition, 1)
    said = answer(partition, order)
    assert (said["outcome"], said["reason"], said["balance_after"]) == ("refused", reason, "140")
    assert answer(partition, 1, "declined")["reason"] == "order_answered"


def test_an_order_that_is_never_answered_stays_the_only_one() -> None:
    partition = opened()
    use(partition, 80)
    for days in range(1, 100, 9):
        use(partition, 1, NOON + days * DAY_MS)
    assert orders(partition) == [1]
    assert answer(partition, 1, at=NOON + 100 * DAY_MS)["outcome"] == "accepted"


def test_a_pack_that_has_become_too_small_buys_once_for_a_crossing_all_the_same() -> None:
    partition = opened()
    smaller = catalog("smaller", effective_from=NOON + HOUR_MS)
    for plan in smaller["plans"]:
        plan["packs"] = [{"pack": "credits-100", "credits": "1", "price": "1"}]
    partition.fold(publication(smaller))
    use(partition, 80, NOON + HOUR_MS)
    answer(partition, 1, at=NOON + HOUR_MS)
    use(partition, 1, NOON + HOUR_MS)
    assert (partition.balance(), orders(partition)) == ("40", [1])


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"pack": "credits-7"}, "unknown_pack"),
        ({"threshold": "100.000001"}, "pack_too_small"),
        ({"threshold": "100"}, ""),
        ({"credits_max_per_period": "99"}, "cap_too_small"),
        ({"credits_max_per_period": "100"}, ""),
    ],
)
def test_one_purchase_must_end_a_crossing_and_the_cap_must_let_it_pass(
    chosen: dict[str, str], reason: str
) -> None:
    partition = opened()
    (said,) = partition.fold(command("configure", {"auto_topup": {**CHOSEN, **chosen}}, command_id="set2"))
    assert said["reason"] == reason


def test_it_can_be_turned_off_and_an_answer_still_counts() -> None:
    partition = opened()
    use(partition, 80)
    partition.fold(command("configure", {"auto_topup": None}, command_id="off"))
    assert partition.of("balances")[-1]["auto_topup"] is None
    assert answer(partition, 1)["balance_after"] == "140"
    use(partition, 100)
    assert orders(partition) == [1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["use", "use", "use", "paid", "declined", "tick", "again"]), st.integers(1, 90)
    ),
    max_size=40,
)


@given(STEPS, st.lists(st.integers(1, 7), max_size=40))
def test_never_two_open_orders_nor_more_than_the_cap_however_the_log_is_cut(
    steps: list[tuple[str, int]], cuts: list[int]
) -> None:
    events: list[Any] = [open_account("prepaid"), issue_grant("120"), configure()]
    at: int = NOON
    log = [record(event, offset=offset, at=at) for offset, event in enumerate(events)]
    for kind, number in steps:
        offset = len(log)
        at += number * HOUR_MS // 20
        event: Any = usage("image_analysis", event_id=f"e{offset}", images=number, at=at)
        if kind in {"paid", "declined"}:
            result = "succeeded" if kind == "paid" else "declined"
            data = {"order": number % 4 + 1, "result": result}
            event = command("topup_result", data, command_id=f"t{offset}", at=at)
        elif kind == "tick":
            event = TICK
        elif kind == "again":
            event = usage("image_analysis", event_id=f"e{offset - 1}", images=number, at=at)
        log.append(record(event, offset=offset, at=at))
    whole, cut = Partition(), Partition()
    whole.apply(whole.run(log))
    rest = log
    for size in (*cuts, len(log)):
        cut.apply(cut.run(rest[:size]))
        rest = rest[size:]
    assert whole.of("topup-orders") == cut.of("topup-orders")
    assert whole.accounts == cut.accounts
    paid = [
        each
        for each in whole.of("results")
        if each["type"].endswith("topup_result.v1") and not each["reason"]
    ]
    accepted = len([each for each in paid if each["outcome"] == "accepted"])
    assert accepted <= len(orders(whole)) <= accepted + 1
    given_ = [each for each in whole.of("ledger") if each["grants"][0]["grant_id"].startswith("topup:")]
    assert sum(each["kind"] == "grant" for each in given_) <= 3
