"""Running out and alerts: product.md sections 3 and 4, row by row and sentence by sentence."""

from typing import Any

import pytest

from pipeline.domain.instants import HOUR_MS, format_instant, parse_instant
from tests.builders import (
    NOON,
    SQUARE,
    TICK,
    Partition,
    catalog,
    command,
    issue_grant,
    open_account,
    publication,
    record,
    usage,
)

BOUNDARY = parse_instant("2026-12-23T12:00:00Z")


def opened(plan: str = "starter", **policy: Any) -> Partition:
    """Starter: 500 credits a month."""
    partition = Partition()
    partition.fold(open_account(plan))
    if policy:
        partition.fold(configure(**policy))
    return partition


def configure(number: int = 1, at: int = NOON, **policy: Any) -> dict[str, Any]:
    return command("configure", policy, command_id=f"configure{number}", at=at)


def use(partition: Partition, *images: int, at: int = NOON) -> list[dict[str, Any]]:
    """Usage of so many credits, one event each."""
    start = 0 if partition.cursor is None else partition.cursor.next_offset
    events = [
        usage("image_analysis", event_id=f"e{start + n}", images=count, at=at)
        for n, count in enumerate(images)
    ]
    return [each for each in partition.fold(*events, at=at) if "outcome" in each]


def alerts(partition: Partition) -> list[int | str]:
    return [each["threshold"] or each["kind"] for each in partition.of("alerts")]


# Running out.


@pytest.mark.parametrize(
    ("plan", "used", "asked", "reason"),
    [
        ("free", 50, 1, "plan_paused"),
        ("free", 49, 2, "insufficient_credits"),
        ("starter", 500, 1, "credits_exhausted"),
        ("starter", 499, 2, "insufficient_credits"),
    ],
)
def test_without_overage_a_request_that_does_not_fit_is_denied(
    plan: str, used: int, asked: int, reason: str
) -> None:
    partition = opened(plan)
    (_, denied) = use(partition, used, asked)
    assert (denied["outcome"], denied["reason"], denied["credits"]) == ("denied", reason, "0")
    assert denied["rated_credits"] == str(asked)
    left = {"free": 50, "starter": 500}[plan] - used
    assert denied["receipt"]["shortage"] == {
        "required": str(asked),
        "available": str(left),
        "resets_at": "2026-12-23T12:00:00.000Z",
    }


def test_with_protection_off_what_goes_beyond_the_grants_is_booked_as_overage() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 490)
    (metered,) = use(partition, 30)

    assert metered["receipt"]["grants"] == [
        {"grant_id": "monthly:2026-11-23", "credits": "10"},
        {"grant_id": "overage", "credits": "20"},
    ]
    assert (metered["receipt"]["balance_before"], metered["receipt"]["balance_after"]) == ("10", "0")
    entries = [(each["kind"], each["credits"], each["balance_after"]) for each in partition.of("ledger")[-2:]]
    assert entries == [("overage", "20", "30"), ("usage", "-30", "0")]
    newest = partition.of("balances")[-1]
    assert (newest["posted"], newest["overage"], newest["available"]) == ("0", "20", "80")


def test_overage_ends_at_its_ceiling() -> None:
    partition = opened(overage_ceiling="100")
    (_, fits, over, last, gone) = use(partition, 500, 60, 41, 40, 1)
    assert (fits["outcome"], last["outcome"]) == ("metered", "metered")
    assert (over["reason"], gone["reason"]) == ("insufficient_credits", "credits_exhausted")


def test_the_ceiling_is_of_each_period() -> None:
    partition = opened(overage_ceiling="10")
    use(partition, 510)
    (denied,) = use(partition, 1)
    (metered,) = use(partition, 510, at=BOUNDARY)
    assert (denied["outcome"], metered["outcome"]) == ("denied", "metered")


def test_overage_stands_on_the_statement_with_its_money_price() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 520)
    partition.fold(TICK, at=BOUNDARY)

    (statement,) = partition.of("statements")
    assert {name: statement[name] for name in ("granted", "overage", "used", "closing")} == {
        "granted": "500", "overage": "20", "used": "520", "closing": "0",
    }  # fmt: skip
    assert (statement["overage_price"], statement["overage_amount"], statement["currency"]) == (
        "0.03",
        "0.6",
        "EUR",
    )


def test_a_plan_without_a_price_for_it_offers_no_overage() -> None:
    partition = opened("free")
    (result,) = partition.fold(configure(overage_ceiling="100"))
    assert (result["outcome"], result["reason"]) == ("refused", "overage_not_offered")


def test_on_a_plan_without_a_price_for_it_protection_is_on_again_and_nothing_is_billed() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 520)
    partition.fold(command("change_plan", {"plan": "free"}, command_id="down"))
    (metered, denied) = use(partition, 50, 1, at=BOUNDARY)
    assert (metered["outcome"], denied["reason"]) == ("metered", "plan_paused")
    assert partition.of("balances")[-1]["overage_ceiling"] is None
    partition.fold(TICK, at=parse_instant("2027-01-23T12:00:00Z"))
    bills = [
        (each["overage"], each["overage_price"], each["overage_amount"])
        for each in partition.of("statements")
    ]
    assert bills == [("20", "0.03", "0.6"), ("0", None, "0")]


def test_a_hold_keeps_what_grants_gave_when_its_plan_has_no_price_for_overage_any_more() -> None:
    partition = opened("free")
    partition.fold(command("change_plan", {"plan": "starter"}, command_id="up"))
    partition.fold(configure(overage_ceiling="100"), issue_grant("8"))
    use(partition, 500, at=BOUNDARY - HOUR_MS)
    partition.fold(command("change_plan", {"plan": "free"}, command_id="down", at=BOUNDARY), at=BOUNDARY - 1)
    hold = {"hold_id": "h", "credits": "30", "seconds": 7200}
    partition.fold(command("hold", hold, command_id="h", at=BOUNDARY), at=BOUNDARY - 1)
    assert partition.of("balances")[-1]["holds"][0]["credits"] == "30"
    partition.fold(TICK, at=BOUNDARY)
    newest = partition.of("balances")[-1]
    assert (newest["holds"][0]["credits"], newest["held"], newest["available"]) == ("8", "8", "50")


def test_an_upgrade_to_a_plan_that_could_not_bill_booked_overage_waits_for_the_boundary() -> None:
    larger = catalog("larger", effective_from=NOON + HOUR_MS, large="9000")
    larger["plans"][-1].pop("overage_price")
    partition = opened(overage_ceiling="100")
    partition.fold(publication(larger))
    use(partition, 501, at=NOON + HOUR_MS)
    up = command("change_plan", {"plan": "large"}, command_id="up")
    answer = partition.fold(up, at=NOON + HOUR_MS)[-1]
    assert answer["plan_change"] == {"plan": "large", "effective_at": "2026-12-23T12:00:00.000Z"}
    partition.fold(TICK, at=BOUNDARY)
    assert partition.of("statements")[-1]["overage_amount"] == "0.03"


def test_protection_can_be_turned_on_again() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 510)
    partition.fold(configure(2, overage_ceiling=None))
    (denied,) = use(partition, 1)
    assert denied["reason"] == "credits_exhausted"


def test_a_hold_may_take_overage_and_books_only_what_is_captured() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 495)
    wanted = {"type": "org.apimage.usage.image_generation.v1", "data": {**SQUARE, "images": 30}}
    partition.fold(command("hold", {"hold_id": "h", "usage": wanted}))
    held = partition.of("balances")[-1]
    assert (held["posted"], held["held"], held["overage"], held["available"]) == ("5", "5", "0", "75")

    done = {
        **wanted,
        "data": {**SQUARE, "images": 12},
        "id": "done",
        "source": "/s",
        "time": format_instant(NOON),
    }
    partition.fold(command("capture", {"hold_id": "h", "usage": done}, command_id="c"))

    newest = partition.of("balances")[-1]
    assert (newest["posted"], newest["held"], newest["overage"], newest["available"]) == ("0", "0", "7", "93")


def test_a_free_plan_at_100_percent_is_paused_until_the_next_period_or_an_upgrade() -> None:
    """Free plan at 100 %: paused until the next period or an upgrade (`plan_paused`, with `resets_at`)."""
    upgraded = opened("free")
    (_, paused) = use(upgraded, 50, 1)
    upgraded.fold(command("change_plan", {"plan": "starter"}, command_id="up"))
    (after_upgrade,) = use(upgraded, 1)
    waiting = opened("free")
    use(waiting, 50, 1)
    (next_period,) = use(waiting, 1, at=BOUNDARY)
    assert paused["receipt"]["shortage"]["resets_at"] == "2026-12-23T12:00:00.000Z"
    assert [each["outcome"] for each in (paused, after_upgrade, next_period)] == [
        "denied",
        "metered",
        "metered",
    ]


def test_on_a_paid_plan_protection_is_on_by_default_and_nothing_is_owed() -> None:
    """Paid plan, overage protection on (default): blocked at 100 %, no overage, no cost."""
    partition = opened("starter")
    (_, blocked) = use(partition, 500, 1)
    partition.fold(TICK, at=BOUNDARY)
    (statement,) = partition.of("statements")
    assert (blocked["reason"], blocked["credits"]) == ("credits_exhausted", "0")
    assert (statement["overage"], statement["overage_amount"]) == ("0", "0")


def test_not_enough_for_this_request_refuses_all_of_it_and_a_batch_may_ask_for_what_fits() -> None:
    """The whole request is refused, nothing charged, with `required` and `available`; a batch may ask for what fits."""
    partition = opened()
    use(partition, 495)
    wanted = {"type": "org.apimage.usage.image_analysis.v1", "data": {"images": 8}}
    whole = partition.fold(command("hold", {"hold_id": "w", "usage": wanted}, command_id="w"))[-1]
    some = partition.fold(
        command("hold", {"hold_id": "p", "usage": wanted, "partial": True}, command_id="p")
    )[-1]
    shortage = {"required": "8", "available": "5", "resets_at": "2026-12-23T12:00:00.000Z"}
    assert (whole["reason"], whole["shortage"], whole["balance_after"]) == (
        "insufficient_credits",
        shortage,
        "5",
    )
    assert (some["hold"]["images"], some["hold"]["credits"]) == (5, "5")


@pytest.mark.parametrize(("each", "admitted"), [("7", 71), ("500", 1), ("501", 0)])
def test_n_concurrent_holds_of_c_on_a_balance_b_admit_exactly_b_divided_by_c(
    each: str, admitted: int
) -> None:
    partition = opened()
    holds = [
        command("hold", {"hold_id": f"h{number}", "credits": each}, command_id=f"h{number}")
        for number in range(80)
    ]
    outcomes = [answer["outcome"] for answer in partition.fold(*holds)]
    assert outcomes == ["accepted"] * admitted + ["refused"] * (80 - admitted)


def test_failed_images_are_never_charged() -> None:
    """`capture` charges what was really done (at most what is held); the rest returns."""
    partition = opened()
    wanted = {"type": "org.apimage.usage.image_analysis.v1", "data": {"images": 10}}
    partition.fold(command("hold", {"hold_id": "h", "usage": wanted}, command_id="h"))
    done = {"id": "d", "source": "/s", "time": format_instant(NOON), **wanted, "data": {"images": 7}}
    partition.fold(command("capture", {"hold_id": "h", "usage": done}, command_id="c"))
    assert (partition.balance(), partition.of("balances")[-1]["held"]) == ("493", "0")


@pytest.mark.parametrize("ticked", [False, True])
def test_a_capture_after_the_holds_expiry_is_refused_ticked_or_not(ticked: bool) -> None:
    partition = opened()
    partition.fold(command("hold", {"hold_id": "h", "credits": "10", "seconds": 60}, command_id="h"))
    if ticked:
        partition.fold(TICK, at=NOON + 60_000)
    usage_ = {"type": "org.apimage.usage.image_analysis.v1", "data": {"images": 1}}
    done = {**usage_, "id": "d", "source": "/s", "time": format_instant(NOON)}
    capture = command("capture", {"hold_id": "h", "usage": done}, command_id="c")
    answer = [each for each in partition.fold(capture, at=NOON + 60_000) if "first_outcome" in each][-1]
    assert (answer["reason"], answer["balance_after"]) == ("hold_expired", "500")


def test_the_same_id_is_a_duplicate_with_the_first_answer_or_a_conflict_with_other_content() -> None:
    """The same id with the same content: charged once. With other content: a dead letter, charged never."""
    partition = opened()
    first = usage("image_analysis", event_id="e", images=3)
    partition.fold(first, first, usage("image_analysis", event_id="e", images=4))
    (charged, again) = partition.of("metered-records")
    (letter,) = partition.of("dead-letters")
    assert (charged["outcome"], again["outcome"], again["credits"]) == ("metered", "duplicate", "0")
    assert (again["rated_credits"], again["first_offset"]) == ("3", charged["offset"])
    assert (letter["reason"], partition.balance()) == ("conflict", "497")


def test_a_resend_of_denied_usage_stays_denied_after_more_credits_came() -> None:
    partition = opened("free")
    event = usage("image_analysis", event_id="e", images=51)
    partition.fold(event, issue_grant("100"), event)
    assert [(each["outcome"], each["reason"]) for each in partition.of("metered-records")] == [
        ("denied", "insufficient_credits"),
        ("duplicate", "insufficient_credits"),
    ]


# Alerts.


def test_each_alert_is_sent_once_for_account_period_and_threshold() -> None:
    """Through every crash and replay: the same log says the same alerts, however it is cut."""
    log = [record(open_account("starter"), offset=0)]
    log += [
        record(usage("image_analysis", event_id=f"e{number}", images=100), offset=number)
        for number in range(1, 8)
    ]
    whole, cut = Partition(), Partition()
    whole.apply(whole.run(log))
    for each in log:
        cut.run([each])  # Crashed before the commit.
        cut.apply(cut.run([each]))
    assert alerts(whole) == alerts(cut) == [80, 100, "limit_reached"]
    assert [each["alert_id"] for each in whole.of("alerts")] == [
        each["alert_id"] for each in cut.of("alerts")
    ]


def test_a_threshold_fires_at_equality_and_once() -> None:
    partition = opened()
    use(partition, 399)
    assert alerts(partition) == []
    use(partition, 1)
    use(partition, 1, 1)
    assert alerts(partition) == [80]


def test_a_jump_past_several_fires_the_highest() -> None:
    partition = opened()
    use(partition, 500)
    use(partition)
    assert alerts(partition) == [100]


def test_110_percent_is_reached_with_protection_off_only() -> None:
    partition = opened(overage_ceiling="100")
    use(partition, 400, 100, 49)
    assert alerts(partition) == [80, 100]
    use(partition, 1)
    assert alerts(partition) == [80, 100, 110]


def test_the_next_period_re_arms() -> None:
    partition = opened()
    use(partition, 400)
    use(partition, 400, at=BOUNDARY)
    assert alerts(partition) == [80, 80]
    assert [each["alert_id"] for each in partition.of("alerts")] == [
        "acct:2026-11-23T12:00:00.000Z:80:2",
        "acct:2026-12-23T12:00:00.000Z:80:5",
    ]


def test_a_larger_limit_re_arms_what_is_no_longer_reached() -> None:
    partition = opened()
    use(partition, 400)
    partition.fold(issue_grant("500"))  # 400 of 1,000.
    use(partition, 399)
    assert alerts(partition) == [80]
    use(partition, 1)
    assert alerts(partition) == [80, 80]


def test_a_larger_limit_does_not_re_arm_what_is_still_reached() -> None:
    partition = opened()
    use(partition, 500)
    partition.fold(issue_grant("100"))  # 500 of 600 is 83 %.
    use(partition, 10)
    assert alerts(partition) == [100]


def test_held_credits_do_not_count_until_they_are_captured() -> None:
    partition = opened()
    wanted = {"type": "org.apimage.usage.image_analysis.v1", "data": {"images": 450}}
    partition.fold(command("hold", {"hold_id": "h", "usage": wanted}))
    assert alerts(partition) == []
    done = {**wanted, "id": "done", "source": "/s", "time": format_instant(NOON)}
    partition.fold(command("capture", {"hold_id": "h", "usage": done}, command_id="c"))
    assert alerts(partition) == [80]


def test_for_a_prepaid_account_the_base_is_what_its_active_grants_gave() -> None:
    partition = opened("prepaid")
    partition.fold(issue_grant("100"), issue_grant("100", grant_id="second"))
    use(partition, 159)
    assert alerts(partition) == []
    use(partition, 1)
    assert alerts(partition) == [80]


def test_a_base_that_shrinks_by_expiry_fires_nothing() -> None:
    partition = opened("prepaid")
    partition.fold(
        issue_grant("100"), issue_grant("900", grant_id="soon", expires_at=format_instant(NOON + HOUR_MS))
    )
    use(partition, 90)
    partition.fold(TICK, at=NOON + HOUR_MS)
    assert alerts(partition) == []


def test_the_first_denial_of_a_period_fires_limit_reached_once() -> None:
    """At 99 of 100 with a 2-credit price, 100 % is never reached."""
    partition = opened()
    use(partition, 499, 2, 2)
    assert alerts(partition) == [80, "limit_reached"]
    use(partition, 501, at=BOUNDARY)
    assert alerts(partition) == [80, "limit_reached", "limit_reached"]


def test_a_refused_hold_is_a_denial_too() -> None:
    partition = opened()
    partition.fold(command("hold", {"hold_id": "h", "credits": "501"}))
    assert alerts(partition) == ["limit_reached"]


def test_thresholds_are_the_owners_to_choose() -> None:
    partition = opened(alert_thresholds=[50])
    use(partition, 250, 250)
    assert alerts(partition) == [50]
    silent = opened(alert_thresholds=[])
    use(silent, 500)
    assert alerts(silent) == []


def test_a_resend_fires_nothing() -> None:
    partition = opened()
    event = usage("image_analysis", images=400)
    partition.fold(event, event, event)
    assert alerts(partition) == [80]
