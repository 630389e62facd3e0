"""Periods, plan changes, statements: product.md section 2, sentence by sentence."""

from typing import Any

import pytest

from pipeline.domain.instants import HOUR_MS, format_instant, parse_instant
from tests.builders import NOON, TICK, Partition, command, issue_grant, micros, open_account, usage

DAY = 24 * HOUR_MS
BOUNDARY = parse_instant("2026-12-23T12:00:00Z")
"""The first one of an account opened at NOON, 23 November."""


def opened(plan: str = "starter") -> Partition:
    partition = Partition()
    partition.fold(open_account(plan))
    return partition


def change_plan(plan: str, number: int = 1, at: int = NOON) -> dict[str, Any]:
    return command("change_plan", {"plan": plan}, command_id=f"change{number}", at=at)


def statement(partition: Partition, number: int = -1) -> dict[str, str]:
    names = ("plan", "opening", "granted", "used", "expired", "voided", "closing")
    return {name: partition.of("statements")[number][name] for name in names}


def test_what_is_left_of_the_month_expires_at_the_boundary_and_a_new_grant_follows() -> None:
    partition = opened()
    partition.fold(usage("image_analysis", images=100))

    (expiration, grant, _) = partition.fold(TICK, at=BOUNDARY + 5)

    assert (expiration["kind"], expiration["credits"], expiration["booked_at"]) == (
        "expiration", "-400", format_instant(BOUNDARY),
    )  # fmt: skip
    assert (grant["kind"], grant["credits"], grant["booked_at"]) == ("grant", "500", format_instant(BOUNDARY))
    assert partition.balance() == "500"


def test_prepaid_credits_roll_over_untouched() -> None:
    partition = opened()
    partition.fold(issue_grant("70"), usage("image_analysis", images=10))
    partition.fold(TICK, at=BOUNDARY)

    assert partition.left() == {"monthly:2026-12-23": micros("500"), "pack": micros("70")}


@pytest.mark.parametrize(
    ("opened_at", "ends"),
    [
        (
            "2026-01-31T10:00:00Z",
            ["2026-02-28T10:00", "2026-03-31T10:00", "2026-04-30T10:00", "2026-05-31T10:00"],
        ),
        (
            "2028-01-31T10:00:00Z",
            ["2028-02-29T10:00", "2028-03-31T10:00", "2028-04-30T10:00", "2028-05-31T10:00"],
        ),
    ],
)
def test_boundaries_are_clamped_to_the_month_from_the_anchor_each_time(
    opened_at: str, ends: list[str]
) -> None:
    at = parse_instant(opened_at)
    partition = Partition()
    partition.fold(open_account(at=at), at=at)
    partition.fold(TICK, at=at + 125 * DAY)

    assert [each["period_end"][:16] for each in partition.of("statements")] == ends


def test_an_account_that_slept_for_months_lives_through_each_boundary_in_turn() -> None:
    idle, ticked = opened(), opened()
    for months in range(1, 6):
        ticked.fold(TICK, at=NOON + months * 31 * DAY)

    later = NOON + 5 * 31 * DAY
    idle.fold(usage("image_analysis", at=later), at=later)
    ticked.fold(usage("image_analysis", at=later), at=later)

    kinds = [(each["kind"], each["credits"], each["booked_at"]) for each in idle.of("ledger")]
    assert kinds == [(each["kind"], each["credits"], each["booked_at"]) for each in ticked.of("ledger")]
    assert len(idle.of("statements")) == 5


def test_usage_accepted_before_the_boundary_is_charged_to_the_old_period() -> None:
    """The worker was down across the boundary: the log's order decides, not when it is read."""
    partition = opened()
    partition.fold(usage("image_analysis", images=7, at=BOUNDARY - 1), at=BOUNDARY - 1)
    partition.fold(usage("image_analysis", event_id="e2", images=2, at=BOUNDARY - 1), at=BOUNDARY)

    assert statement(partition)["used"] == "7"
    assert partition.left() == {"monthly:2026-12-23": micros("498")}


def test_a_statement_adds_up() -> None:
    partition = opened()
    partition.fold(
        issue_grant("70"),
        issue_grant("5", grant_id="gone"),
        command("void_grant", {"grant_id": "gone"}, command_id="v"),
        usage("image_analysis", images=30),
    )
    partition.fold(TICK, at=BOUNDARY)

    assert statement(partition) == {
        "plan": "starter", "opening": "0", "granted": "575", "used": "30", "expired": "470", "voided": "5",
        "closing": "70",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("terms", "expires_at"),
    [
        ({}, "2027-11-23T12:00:00.000Z"),
        ({"effective_at": "2026-12-31T12:00:00Z"}, "2027-12-31T12:00:00.000Z"),
        ({"expires_at": None}, None),
        ({"expires_at": "2027-01-01T00:00:00Z"}, "2027-01-01T00:00:00.000Z"),
        ({"kind": "promotional"}, None),
    ],
)
def test_prepaid_credits_end_12_months_after_purchase_unless_they_say_otherwise(
    terms: dict[str, Any], expires_at: str | None
) -> None:
    partition = opened("free")
    partition.fold(issue_grant("70", **terms))
    grants = {each["grant_id"]: each["expires_at"] for each in partition.of("balances")[-1]["grants"]}
    assert grants["pack"] == expires_at


def test_an_upgrade_gives_the_difference_at_once_and_keeps_anchor_and_use() -> None:
    partition = opened("starter")
    partition.fold(issue_grant("70"), usage("image_analysis", images=100))

    *_, result = partition.fold(change_plan("pro", at=NOON + 10 * DAY), at=NOON + 10 * DAY)

    assert result["plan_change"] == {"plan": "pro", "effective_at": format_instant(NOON + 10 * DAY)}
    assert partition.left() == {
        "monthly:2026-11-23": micros("400"), "upgrade:2026-12-03:pro": micros("2000"), "pack": micros("70"),
    }  # fmt: skip
    partition.fold(TICK, at=BOUNDARY)
    assert partition.left() == {"monthly:2026-12-23": micros("2500"), "pack": micros("70")}


def test_an_upgrade_from_a_free_plan_starts_a_new_period_and_loses_nothing() -> None:
    partition = opened("free")
    partition.fold(usage("image_analysis", images=20))
    at = NOON + 10 * DAY

    partition.fold(change_plan("starter", at=at), at=at)

    assert partition.of("balances")[-1]["period_start"] == format_instant(at)
    assert statement(partition)["plan"] == "free"
    assert partition.left() == {
        "monthly:2026-11-23": micros("30"),
        "upgrade:2026-12-03:starter": micros("450"),
    }
    partition.fold(TICK, at=BOUNDARY)
    assert partition.left() == {"upgrade:2026-12-03:starter": micros("450")}


def test_a_downgrade_takes_effect_at_the_boundary() -> None:
    partition = opened("pro")

    (result,) = partition.fold(change_plan("starter"))

    assert (result["outcome"], partition.balance()) == ("accepted", "2500")
    assert result["plan_change"] == {"plan": "starter", "effective_at": format_instant(BOUNDARY)}
    partition.fold(TICK, at=BOUNDARY)
    assert (partition.balance(), partition.of("balances")[-1]["plan"]) == ("500", "starter")


def test_to_cancel_is_to_fall_back_to_the_free_plan_and_can_be_thought_over() -> None:
    partition = opened("starter")
    partition.fold(change_plan("free", 1), change_plan("starter", 2))
    partition.fold(TICK, at=BOUNDARY)
    assert partition.of("balances")[-1]["plan"] == "starter"

    partition.fold(change_plan("free", 3, at=BOUNDARY), at=BOUNDARY)
    partition.fold(TICK, at=BOUNDARY + 40 * DAY)
    assert (partition.of("balances")[-1]["plan"], partition.balance()) == ("free", "50")


def test_the_plan_that_is_there_already_is_refused() -> None:
    partition = opened("starter")
    (result,) = partition.fold(change_plan("starter"))
    assert (result["outcome"], result["reason"]) == ("refused", "plan_unchanged")


def test_a_closed_account_keeps_nothing_and_does_nothing() -> None:
    partition = opened("starter")
    partition.fold(issue_grant("70"), command("close", {}, command_id="close"))

    (denied, result) = partition.fold(
        usage("image_analysis"), issue_grant("1", grant_id="late"), at=NOON + 1000
    )

    assert statement(partition) == {
        "plan": "starter", "opening": "0", "granted": "570", "used": "0", "expired": "0", "voided": "570",
        "closing": "0",
    }  # fmt: skip
    assert (denied["outcome"], denied["reason"], result["reason"]) == (
        "denied",
        "account_closed",
        "account_closed",
    )
    assert partition.fold(TICK, at=BOUNDARY) == []
