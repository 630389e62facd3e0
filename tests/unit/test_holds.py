"""Holds: product.md section 3, "Hold → capture or release"."""

from typing import Any

import pytest

from pipeline.domain.instants import HOUR_MS, format_instant
from tests.builders import NOON, SQUARE, TICK, Partition, command, issue_grant, micros, open_account, usage

GENERATION = "org.apimage.usage.image_generation.v1"


def opened(credits: str | None = "10", plan: str = "prepaid") -> Partition:
    partition = Partition()
    partition.fold(open_account(plan))
    if credits is not None:
        partition.fold(issue_grant(credits))
    return partition


def hold(
    hold_id: str = "h", *, images: int = 1, command_id: str = "", at: int = NOON, **terms: Any
) -> dict[str, Any]:
    """By default: what a number of medium 1:1 images would cost, 1 credit each."""
    asked = (
        {} if "credits" in terms else {"usage": {"type": GENERATION, "data": {**SQUARE, "images": images}}}
    )
    data = {"hold_id": hold_id, **asked, **terms}
    return command("hold", data, command_id=command_id or f"hold:{hold_id}", at=at)


def capture(
    hold_id: str = "h", *, images: int = 1, event_id: str = "e1", at: int = NOON, **data: Any
) -> dict[str, Any]:
    done = {
        "type": GENERATION,
        "id": event_id,
        "source": "/services/images",
        "time": format_instant(at),
        "data": {**SQUARE, "images": images, **data},
    }
    return command(
        "capture", {"hold_id": hold_id, "usage": done}, command_id=f"capture:{hold_id}:{event_id}", at=at
    )


def release(hold_id: str = "h", at: int = NOON) -> dict[str, Any]:
    return command("release", {"hold_id": hold_id}, command_id=f"release:{hold_id}", at=at)


def available(partition: Partition) -> tuple[str, str, str]:
    """Posted, held, available."""
    newest = partition.of("balances")[-1]
    return newest["posted"], newest["held"], newest["available"]


def test_a_hold_sets_credits_aside_that_nothing_else_can_use() -> None:
    partition = opened("10")
    (result,) = partition.fold(hold(images=8))
    (denied,) = partition.fold(usage("image_analysis", images=3))

    assert (result["outcome"], result["hold"]["credits"], result["available_after"]) == ("accepted", "8", "2")
    assert available(partition) == ("10", "8", "2")
    assert (denied["outcome"], denied["reason"]) == ("denied", "insufficient_credits")


@pytest.mark.parametrize(
    ("balance", "each", "admitted"), [("500", 75, 6), ("10", 3, 3), ("9", 3, 3), ("2", 3, 0)]
)
def test_concurrent_holds_admit_exactly_as_many_as_fit(balance: str, each: int, admitted: int) -> None:
    partition = opened(balance)

    results = partition.fold(*[hold(f"h{number}", images=each) for number in range(20)])

    assert [result["outcome"] for result in results].count("accepted") == admitted


def test_a_refused_hold_says_what_is_missing_and_when_there_will_be_more() -> None:
    partition = opened("2", plan="starter")
    (result,) = partition.fold(hold(images=600))

    assert (result["outcome"], result["reason"]) == ("refused", "insufficient_credits")
    assert result["shortage"] == {
        "required": "600", "available": "502", "resets_at": "2026-12-23T12:00:00.000Z",
    }  # fmt: skip


def test_a_batch_may_ask_for_what_fits() -> None:
    partition = opened("10")
    (partial, nothing) = partition.fold(
        hold("some", images=40, partial=True), hold("none", images=4, partial=True)
    )

    assert (partial["hold"]["images"], partial["hold"]["credits"]) == (10, "10")
    assert (nothing["outcome"], nothing["reason"]) == ("refused", "credits_exhausted")


def test_a_capture_charges_what_was_done_and_gives_back_the_rest() -> None:
    partition = opened("10")
    partition.fold(hold(images=8))

    (entry, metered, result) = partition.fold(capture(images=5))

    assert (entry["kind"], entry["credits"], entry["cause_id"]) == ("usage", "-5", "e1")
    assert (metered["event_id"], metered["credits"], metered["receipt"]["grants"]) == (
        "e1", "5", [{"grant_id": "pack", "credits": "5"}],
    )  # fmt: skip
    assert (result["outcome"], result["hold"]["credits"]) == ("accepted", "5")
    assert available(partition) == ("5", "0", "5")


def test_captured_usage_goes_through_the_same_deduplication() -> None:
    partition = opened("10")
    partition.fold(hold(images=2), capture(images=2))
    done = usage("image_generation", SQUARE, images=2)

    (again,) = partition.fold(done)
    (refused,) = partition.fold(hold("h2"), capture("h2", images=1))[1:]

    assert (again["outcome"], again["rated_credits"]) == ("duplicate", "2")
    assert (refused["outcome"], refused["reason"]) == ("refused", "usage_answered")


def test_a_capture_sent_twice_charges_once_and_repeats_the_answer() -> None:
    partition = opened("10")
    partition.fold(hold(images=8), capture(images=5))

    (again,) = partition.fold(capture(images=5))

    assert (again["outcome"], again["first_outcome"], again["hold"]["credits"]) == (
        "duplicate",
        "accepted",
        "5",
    )
    assert available(partition) == ("5", "0", "5")


def test_more_than_was_held_is_refused_and_the_hold_stays() -> None:
    partition = opened("10")
    partition.fold(hold(images=2))

    (result,) = partition.fold(capture(images=3))

    assert (result["outcome"], result["reason"]) == ("refused", "exceeds_hold")
    assert available(partition) == ("10", "2", "8")


def test_a_release_puts_every_credit_back_where_it_came_from() -> None:
    partition = opened("3")
    partition.fold(issue_grant("4", grant_id="second"))
    before = partition.left()

    partition.fold(hold(images=5))
    assert partition.left() == {"pack": 0, "second": micros("2")}
    partition.fold(release())

    assert partition.left() == before


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        (release(), capture(), "hold_released"),
        (capture(), release(), "hold_captured"),
        (capture(), capture(event_id="e2"), "hold_captured"),
        (release("other"), release(), ""),
    ],
)
def test_of_capture_and_release_exactly_one_wins(
    first: dict[str, Any], then: dict[str, Any], reason: str
) -> None:
    partition = opened("10")
    partition.fold(hold(), first)
    said = partition.fold(then)
    assert said[-1]["reason"] == reason


@pytest.mark.parametrize("ticked", [True, False])
def test_a_capture_after_the_holds_expiry_is_refused_ticked_or_not(ticked: bool) -> None:
    partition = opened("10")
    partition.fold(hold(images=8, seconds=60))
    if ticked:
        partition.fold(TICK, at=NOON + 60_000)

    said = partition.fold(capture(images=5), at=NOON + 60_000)

    assert (said[-1]["outcome"], said[-1]["reason"]) == ("refused", "hold_expired")
    assert available(partition) == ("10", "0", "10")


def test_a_capture_just_before_the_expiry_is_accepted() -> None:
    partition = opened("10")
    partition.fold(hold(images=8, seconds=60))
    assert partition.fold(capture(images=5), at=NOON + 59_999)[-1]["outcome"] == "accepted"


def test_what_comes_back_to_a_grant_that_has_ended_expires_by_an_entry_of_its_own() -> None:
    partition = opened(None)
    partition.fold(issue_grant("10", expires_at=format_instant(NOON + HOUR_MS)))
    partition.fold(hold(images=8, seconds=7200))
    partition.fold(TICK, at=NOON + HOUR_MS)
    assert available(partition) == ("8", "8", "0")

    (usage_entry, lost, _, _) = partition.fold(capture(images=5), at=NOON + HOUR_MS + 1)

    assert (usage_entry["credits"], lost["kind"], lost["credits"], lost["cause_id"]) == (
        "-5",
        "expiration",
        "-3",
        "h",
    )
    assert available(partition) == ("0", "0", "0")


def test_hold_then_capture_equals_direct_use() -> None:
    held, direct = opened("3"), opened("3")
    for partition in (held, direct):
        partition.fold(issue_grant("40", grant_id="second"))
    held.fold(hold(images=20), capture(images=7))
    direct.fold(usage("image_generation", SQUARE, images=7))

    assert held.left() == direct.left()
    entries = [(each["credits"], each["grants"], each["balance_after"]) for each in held.of("ledger")]
    assert entries == [
        (each["credits"], each["grants"], each["balance_after"]) for each in direct.of("ledger")
    ]


def test_a_hold_id_is_used_once() -> None:
    partition = opened("10")
    partition.fold(hold(), release())
    (again,) = partition.fold(hold(command_id="another"))
    assert (again["outcome"], again["reason"]) == ("refused", "hold_exists")


def test_an_unknown_hold_is_refused() -> None:
    (result,) = opened().fold(capture("never"))
    assert (result["outcome"], result["reason"]) == ("refused", "unknown_hold")


def test_closing_an_account_gives_up_its_holds() -> None:
    partition = opened("10")
    partition.fold(hold(images=8), command("close", {}, command_id="close"))
    assert available(partition) == ("0", "0", "0")
    assert partition.fold(capture())[-1]["reason"] == "account_closed"


def test_a_closed_account_has_nothing_to_use_whatever_ceiling_it_had() -> None:
    partition = opened("10")
    partition.fold(command("configure", {"overage_ceiling": "50"}, command_id="ceiling"))
    assert available(partition) == ("10", "0", "60")
    partition.fold(command("close", {}, command_id="close"))
    assert available(partition) == ("0", "0", "0")
