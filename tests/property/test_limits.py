"""At the limits: the window of acceptance, the price of the instant, alerts once and at equality, top-up once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.credits import parse_credits
from pipeline.domain.instants import DAY_MS, HOUR_MS, SECOND_MS, format_instant
from tests.builders import (
    NOON,
    TICK,
    Partition,
    Record,
    command,
    flat_book,
    issue_grant,
    open_account,
    publication,
    usage,
)
from tests.property.logs import Choices, account_of, logs, played, ticked

HOT, LATE, AHEAD = 72 * HOUR_MS, 35 * DAY_MS, 300 * SECOND_MS
NEAR = st.sampled_from([0, -AHEAD, HOT, LATE]).flatmap(lambda edge: st.integers(edge - 2, edge + 2))


@given(NEAR)
def test_usage_is_accepted_exactly_within_its_window(behind: int) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant("1"))
    said = partition.fold(usage("image_analysis", at=NOON - behind))[-1]

    if behind > LATE:
        expected = "too_late"
    elif behind > HOT:
        expected = "late"
    else:
        expected = "too_early" if behind < -AHEAD else ""
    assert said["reason"] == expected
    assert partition.balance() == ("1" if expected else "0")


@given(NEAR)
def test_a_command_is_obeyed_exactly_within_the_hot_window(behind: int) -> None:
    partition = Partition()
    said = partition.fold(open_account("prepaid", at=NOON - behind))[-1]

    expected = "too_late" if behind > HOT else "too_early" if behind < -AHEAD else ""
    assert said["reason"] == expected
    assert bool(partition.accounts) == (not expected)


@given(st.integers(0, HOT) | st.integers(HOT, HOT + AHEAD), st.booleans())
def test_no_resend_within_its_window_is_charged_again(later: int, same: bool) -> None:
    """However old its first copy is by then: stamped as early as may be, or as late."""
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant("5"))
    event = usage("image_analysis", at=NOON + AHEAD)
    partition.fold(event)
    again = event if same else {**event, "data": {"images": 2}}

    said = partition.fold(again, at=NOON + later)[-1]

    assert said["reason"] == ("duplicate" if same else "conflict")
    assert partition.balance() == "4"


@given(st.sampled_from(["id", "source", "account", ""]), st.integers(1, 3))
def test_one_identity_is_one_account_source_and_id(differs: str, images: int) -> None:
    partition = Partition()
    for account in ("acct", "other"):
        partition.fold(open_account("prepaid", account=account), issue_grant("9", account=account))
    partition.fold(usage("image_analysis", images=images))
    another = usage(
        "image_analysis",
        event_id="e2" if differs == "id" else "e1",
        source="/services/other" if differs == "source" else "/services/images",
        account="other" if differs == "account" else "acct",
        images=images,
    )
    (*_, said) = partition.fold(another)

    assert said["outcome"] == ("metered" if differs else "duplicate")


@given(
    st.lists(st.tuples(st.integers(1, 90), st.sampled_from(["1", "2", "0.5", "7"])), max_size=4),
    st.lists(st.integers(0, 200), min_size=1, max_size=8),
)
def test_usage_costs_what_the_book_in_force_at_its_acceptance_says(
    changes: list[tuple[int, str]], uses: list[int]
) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant("100"))
    at, prices = NOON + 60 * SECOND_MS, {0: "1"}
    for number, (later, price) in enumerate(changes):
        at += later * SECOND_MS
        prices[at] = price
        book = flat_book(f"v{number}", effective_from=at, image_analysis=price)
        partition.fold(publication(book, command_id=f"v{number}"))
    for number, seconds in enumerate(sorted(uses)):
        now = NOON + 60 * SECOND_MS + seconds * SECOND_MS
        said = partition.fold(usage("image_analysis", event_id=f"e{number}", at=NOON), at=now)[-1]
        assert said["credits"] == prices[max(each for each in prices if each <= now)]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
    st.sets(st.integers(1, 150), min_size=1, max_size=4),
    st.integers(1, 20),
)
def test_alerts_come_at_equality_once_and_the_highest_on_a_jump(
    uses: list[int], thresholds: set[int], base: int
) -> None:
    partition = Partition()
    settings = {"alert_thresholds": sorted(thresholds), "overage_ceiling": "50"}
    partition.fold(open_account("prepaid"), issue_grant(str(base)), command("configure", settings))
    expected: list[tuple[int, str]] = []
    waiting, used = sorted(thresholds), 0
    for number, images in enumerate(uses):
        used += images
        partition.fold(usage("image_analysis", event_id=f"e{number}", images=images))
        reached = [each for each in waiting if used * 100 >= each * base]
        waiting = [each for each in waiting if each not in reached]
        expected += [(reached[-1], str(used))] if reached else []

    assert [(each["threshold"], each["used"]) for each in partition.of("alerts")] == expected


@given(st.integers(1, 4), st.sampled_from([0, 100, 900]))
def test_a_new_period_sends_its_own_alerts_and_so_does_a_larger_limit(periods: int, more: int) -> None:
    partition = Partition()
    partition.fold(open_account("starter"), command("configure", {"alert_thresholds": [50]}))
    at = int(NOON)
    for number in range(periods):
        images = 250 if number == 0 else 500
        partition.fold(usage("image_analysis", event_id=f"e{number}", images=images, at=at), at=at)
        if number == 0 and more:
            partition.fold(issue_grant(str(more), at=at, kind="monthly"), at=at)
            partition.fold(usage("image_analysis", event_id="more", images=(500 + more) // 2, at=at), at=at)
        at = account_of(partition, "acct").subscription.period_end
    sent = [each["period_start"] for each in partition.of("alerts")]

    assert len(set(sent)) == periods
    assert len(sent) == periods + bool(more)


@given(logs())
def test_an_alert_comes_again_only_in_another_period_or_after_a_larger_limit(log: list[Record]) -> None:
    sent: dict[tuple[str, str, int], int] = {}
    larger: dict[str, int] = {}
    partition = played(ticked(log))
    said = [(each["partition_seq"], each) for each in [*partition.of("ledger"), *partition.of("alerts")]]
    for seq, each in sorted(said, key=lambda pair: pair[0]):
        account = each["account_id"]
        if each.get("kind") == "grant":
            larger[account] = seq
        elif "alert_id" in each:
            name = account, each["period_start"], each["threshold"] or 0
            assert name not in sent or sent[name] <= larger[account], each
            sent[name] = seq
    ids = [each["alert_id"] for each in partition.of("alerts")]
    assert len(ids) == len(set(ids))


@given(logs())
def test_of_the_first_denial_of_a_period_one_alert_is_sent(log: list[Record]) -> None:
    partition = played(ticked(log))
    denials = {
        (each["account_id"], each["offset"])
        for each in [*partition.of("metered-records"), *partition.of("results")]
        if each["reason"] in {"plan_paused", "credits_exhausted", "insufficient_credits"}
        and each["outcome"] in {"denied", "refused"}
    }
    alerts = [each for each in partition.of("alerts") if each["kind"] == "limit_reached"]
    assert {(each["account_id"], each["offset"]) for each in alerts} <= denials
    assert {each["account_id"] for each in alerts} == {account for account, _ in denials}


@given(st.binary(min_size=60, max_size=60), st.sampled_from([10, 20, 30]))
def test_one_crossing_orders_one_pack_and_a_period_no_more_than_its_cap(chosen: bytes, cap: int) -> None:
    choose, partition = Choices(iter(chosen)), Partition()
    topup = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": str(cap * 10)}
    partition.fold(open_account("prepaid"), issue_grant("120"), command("configure", {"auto_topup": topup}))
    at, answered, bought = int(NOON), 0, 0
    for number in range(20):
        match choose.of("use", "use", "pay", "decline", "wait"):
            case "use":
                images = choose.of(5, 30, 60)
                partition.fold(usage("image_analysis", event_id=f"e{number}", images=images, at=at), at=at)
            case "wait":
                at += HOUR_MS
                partition.fold(TICK, at=at)
            case pays:
                open_ = len(partition.of("topup-orders"))
                result = "succeeded" if pays == "pay" else "declined"
                said = partition.fold(_answer(open_ or 1, result, number, at), at=at)[-1]
                taken = said["outcome"] == "accepted"
                assert taken == (open_ > answered)
                answered, bought = answered + taken, bought + (100 if taken and pays == "pay" else 0)
        orders = partition.of("topup-orders")
        assert answered <= len(orders) <= answered + 1
        assert all(parse_credits(each["credits_left"]) < parse_credits("50") for each in orders)
        assert bought + 100 * (len(orders) - answered) <= cap * 10
    paid = [each for each in partition.of("ledger") if each["grants"][0]["grant_id"].startswith("topup:")]
    assert sum(parse_credits(each["credits"]) for each in paid if each["kind"] == "grant") == bought * 10**6


def _answer(order: int, result: str, number: int, at: int) -> dict[str, Any]:
    return command("topup_result", {"order": order, "result": result}, command_id=f"t{number}", at=at)


@given(st.integers(1, 30), st.integers(0, 12), st.integers(1, 30))
def test_usage_is_denied_exactly_when_it_is_more_than_is_there(grant: int, ceiling: int, images: int) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant(str(grant)))
    if ceiling:
        partition.fold(command("configure", {"overage_ceiling": str(ceiling)}))
    said = partition.fold(usage("image_analysis", images=images))[-1]

    fits = images <= grant + ceiling
    assert said["outcome"] == ("metered" if fits else "denied")
    assert partition.balance() == str(max(0, grant - images) if fits else grant)
    if not fits:
        assert (said["credits"], said["rated_credits"]) == ("0", str(images))
        assert format_instant(NOON) == said["accepted_at"]
