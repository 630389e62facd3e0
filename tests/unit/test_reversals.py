"""Reversals and new ratings: product.md section 2 and design.md section 4, sentence by sentence."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.domain.account import REVERSAL_DAYS_MAX
from pipeline.domain.instants import DAY_MS, HOUR_MS, format_instant
from pipeline.domain.reversals import REVERSALS_MAX
from pipeline.domain.usage import AccountId
from pipeline.evidence import wanted
from pipeline.state import decode_account
from tests.builders import (
    NOON,
    TICK,
    Partition,
    command,
    core,
    flat_book,
    issue_grant,
    micros,
    open_account,
    publication,
    record,
    usage,
)

BOUNDARY = "2026-12-23T12:00:00Z"


def opened(plan: str = "prepaid", *grants: dict[str, Any], **rules: int) -> Partition:
    partition = Partition(core(**rules))
    partition.fold(open_account(plan), *grants)
    return partition


def used(partition: Partition, images: int, *, at: int = NOON, event_id: str = "e1") -> int:
    """Use so many credits; where in the log."""
    said = partition.fold(usage("image_analysis", event_id=event_id, images=images, at=at), at=at)
    assert said[-1]["outcome"] == "metered"
    return int(said[-1]["offset"])


def reverse(
    offset: int, credits: str | None = None, *, number: int = 1, at: int = NOON, **record: int
) -> dict[str, Any]:
    data: dict[str, Any] = {"record": {"partition": 0, "offset": 7, "event_offset": offset, **record}}
    if credits is not None:
        data["credits"] = credits
    return command("reverse", data, command_id=f"reverse{number}", at=at)


def rerate(offset: int, price_book: str = "2026-01", *, at: int = NOON, number: int = 1) -> dict[str, Any]:
    record = {"partition": 0, "offset": 7, "event_offset": offset}
    data = {"record": record, "price_book": price_book}
    return command("rerate", data, command_id=f"rerate{number}", at=at)


def answer(partition: Partition, event: Mapping[str, Any], *, at: int = NOON) -> dict[str, Any]:
    return partition.fold(event, at=at)[-1]


TWO = (issue_grant("10", grant_id="first", priority=1), issue_grant("100", grant_id="second", priority=2))


def test_credits_return_to_the_grants_that_paid_the_last_used_first() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)

    said = partition.fold(reverse(offset, "5"))

    assert [(each["kind"], each["credits"], each["grants"]) for each in said if "kind" in each] == [
        ("reversal", "5", [{"grant_id": "second", "credits": "4"}, {"grant_id": "first", "credits": "1"}])
    ]
    assert partition.left() == {"first": micros("1"), "second": micros("100")}
    assert said[-1]["reversal"] == {
        "event_offset": offset, "credits": "5", "returned": "5", "expired": "0", "overage": "0", "recharged": None,
    }  # fmt: skip


def test_a_reversal_is_a_record_of_its_own_so_that_sums_are_what_was_charged_in_the_end() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    partition.fold(reverse(offset, "5"))
    charge, reversal = partition.of("metered-records")
    names = ("outcome", "event_id", "credits", "rated_credits", "images", "first_offset", "receipt")
    assert [reversal[name] for name in names] == ["reversed", "e1", "-5", "0", 0, offset, None]
    assert (charge["credits"], charge["images"]) == ("14", 14)


def test_without_an_amount_all_that_is_left_is_taken_back() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    assert answer(partition, reverse(offset, "4", number=1))["reversal"]["credits"] == "4"
    assert answer(partition, reverse(offset, number=2))["reversal"]["credits"] == "10"
    assert partition.balance() == "110"
    assert answer(partition, reverse(offset, number=3))["reason"] == "already_reversed"


@pytest.mark.parametrize(("credits", "reason"), [("14", ""), ("14.000001", "exceeds_charge")])
def test_at_most_what_was_charged_is_taken_back(credits: str, reason: str) -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    assert answer(partition, reverse(offset, credits))["reason"] == reason


def test_once_for_each_command_however_often_it_is_sent() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    partition.fold(reverse(offset, "5"))
    assert answer(partition, reverse(offset, "5"))["outcome"] == "duplicate"
    assert partition.balance() == "101"


def test_what_returns_to_a_grant_that_has_ended_expires_there_and_then_and_is_stated() -> None:
    ends = format_instant(NOON + HOUR_MS)
    partition = opened("prepaid", issue_grant("10", grant_id="short", expires_at=ends, priority=0), *TWO[1:])
    offset = used(partition, 14)
    later = NOON + 2 * HOUR_MS

    said = partition.fold(reverse(offset, at=later), at=later)

    entries = [(each["kind"], each["credits"], each["balance_after"]) for each in said if "kind" in each]
    assert entries == [("reversal", "14", "110"), ("expiration", "-10", "100")]
    told = said[-1]["reversal"]
    assert (told["credits"], told["returned"], told["expired"]) == ("14", "4", "10")


def test_a_grant_of_the_same_name_that_began_later_is_another_one() -> None:
    partition = opened("prepaid", issue_grant("10", grant_id="pack"))
    offset = used(partition, 10)
    later = NOON + HOUR_MS
    partition.fold(
        command("void_grant", {"grant_id": "pack"}, command_id="v", at=later),
        {
            **issue_grant("10", grant_id="pack", at=later, source="again"),
        },
        command("grant", {"grant_id": "pack", "kind": "prepaid", "credits": "20"}, command_id="g2", at=later),
        at=later,
    )
    told = answer(partition, reverse(offset, at=later), at=later)["reversal"]
    assert (told["returned"], told["expired"]) == ("0", "10")
    assert partition.balance() == "20"


def test_overage_that_is_taken_back_is_not_owed_any_more() -> None:
    partition = opened("starter")
    partition.fold(command("configure", {"overage_ceiling": "100"}))
    offset = used(partition, 530)

    said = partition.fold(reverse(offset, "40"))

    entries = [(each["kind"], each["credits"], each["balance_after"]) for each in said if "kind" in each]
    assert entries == [("reversal", "40", "40"), ("overage", "-30", "10")]
    assert said[-1]["reversal"]["overage"] == "30"
    newest = partition.of("balances")[-1]
    assert (newest["overage"], newest["available"]) == ("0", "110")


def test_a_statement_once_issued_never_changes_and_the_next_one_says_what_was_taken_back() -> None:
    partition = opened("starter")
    partition.fold(command("configure", {"overage_ceiling": "100"}))
    offset = used(partition, 520)
    later = NOON + 31 * DAY_MS
    partition.fold(reverse(offset, "25", at=later), at=later)
    partition.fold(TICK, at=later + 31 * DAY_MS)

    first, second = partition.of("statements")

    names = ("used", "overage", "overage_amount", "reversed", "overage_returned", "closing")
    assert [first[name] for name in names] == ["520", "20", "0.6", "0", "0", "0"]
    assert [second[name] for name in names] == ["0", "0", "0", "25", "20", "0"]
    assert (second["opening"], second["granted"], second["expired"]) == ("0", "500", "505")


@pytest.mark.parametrize("plan", ["starter", "pro", "free"])
def test_billed_overage_goes_back_at_the_price_at_which_it_was_billed_whatever_the_plan_is_now(
    plan: str,
) -> None:
    partition = opened("starter")
    partition.fold(command("configure", {"overage_ceiling": "100"}))
    offset = used(partition, 520)
    later = NOON + 31 * DAY_MS
    partition.fold(command("change_plan", {"plan": plan}, command_id="plan", at=later), at=later)
    partition.fold(reverse(offset, "12", at=later), reverse(offset, "3", number=2, at=later), at=later)
    partition.fold(TICK, at=later + 31 * DAY_MS)
    partition.fold(TICK, at=later + 62 * DAY_MS)
    returns = [each["overage_returns"] for each in partition.of("statements")]
    back = {"credits": "15", "overage_price": "0.03", "amount": "0.45", "currency": "EUR"}
    assert [each for each in returns if each] == [[{"period_end": "2026-12-23T12:00:00.000Z", **back}]]


def test_what_was_billed_makes_no_room_for_more_overage_in_the_running_period() -> None:
    partition = opened("starter")
    partition.fold(command("configure", {"overage_ceiling": "100"}))
    offset = used(partition, 520)
    later = NOON + 31 * DAY_MS
    used(partition, 600, event_id="e2", at=later)
    partition.fold(reverse(offset, at=later), at=later)
    newest = partition.of("balances")[-1]
    assert (newest["posted"], newest["overage"], newest["available"]) == ("0", "100", "0")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event_offset": 99}, "record_not_found"),
        ({"partition": 1}, "record_mismatch"),
        ({"event_offset": 1}, "record_not_found"),  # A command's offset: it has no metered record.
        ({"event_offset": 4}, "not_reversible"),  # A denial.
        ({"event_offset": 5}, "not_reversible"),  # A duplicate.
        ({"event_offset": 7}, "record_mismatch"),  # Another account's charge.
    ],
)
def test_a_record_that_is_no_charge_of_the_account_is_refused(change: dict[str, int], reason: str) -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    partition.fold(
        usage("image_analysis", event_id="e2", images=1000),
        usage("image_analysis", event_id="e1", images=14),
        open_account("starter", account="other", command_id="open2"),
        usage("image_analysis", account="other"),
    )
    said = answer(partition, reverse(offset, None, **change))
    assert (said["outcome"], said["reason"]) == ("refused", reason)
    assert partition.balance() == "96"


def test_a_charge_can_be_taken_back_for_35_days() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    last = NOON + 35 * DAY_MS
    assert answer(partition, reverse(offset, "1", at=last), at=last)["reason"] == ""
    said = answer(partition, reverse(offset, "1", number=2, at=last + 1), at=last + 1)
    assert said["reason"] == "reversal_too_late"


def test_the_account_remembers_only_what_can_still_be_taken_back_and_never_too_much() -> None:
    partition = opened("prepaid", issue_grant("100000"))
    offsets = [used(partition, 1, event_id=f"e{number}") for number in range(REVERSALS_MAX + 1)]
    partition.fold(*[reverse(offset, number=offset) for offset in offsets[:-1]])
    assert answer(partition, reverse(offsets[-1], number=offsets[-1]))["reason"] == "too_many_reversals"
    later = NOON + 36 * DAY_MS
    partition.fold(reverse(used(partition, 1, at=later, event_id="new"), number=5000, at=later), at=later)
    account = decode_account("acct", partition.accounts[b"acct"])  # type: ignore[arg-type]
    assert len(account.reversals) == 1


def test_what_was_taken_back_is_remembered_until_nobody_can_ask_for_it_again() -> None:
    """Also where a deployment allowed less time at first, and then more."""
    partition = opened("prepaid", *TWO, reversal_days=2)
    offset, other = used(partition, 14), used(partition, 1, event_id="e2")
    partition.fold(reverse(offset, "14"))
    later = NOON + 10 * DAY_MS
    partition.fold(reverse(used(partition, 1, at=later, event_id="e3"), number=2, at=later), at=later)
    partition.core = core(reversal_days=35)
    assert answer(partition, reverse(offset, number=3, at=later), at=later)["reason"] == "already_reversed"
    assert answer(partition, reverse(other, number=4, at=later), at=later)["reason"] == ""


def test_no_deployment_can_allow_more_time_than_accounts_remember() -> None:
    assert core(reversal_days=REVERSAL_DAYS_MAX).rules.reversal_ms == REVERSAL_DAYS_MAX * DAY_MS
    with pytest.raises(ValidationError):
        core(reversal_days=REVERSAL_DAYS_MAX + 1)


def test_a_row_that_was_written_before_there_were_reversals_is_read_like_one_without() -> None:
    partition = opened("starter")
    row = orjson.loads(partition.accounts[b"acct"])
    old = {name: value for name, value in row.items() if name not in {"reversals", "billed"}}
    old["totals"] = row["totals"][:6]
    new = decode_account(AccountId("acct"), partition.accounts[b"acct"])
    assert decode_account(AccountId("acct"), orjson.dumps(old)) == new


def test_an_account_forgets_by_itself_what_is_too_old_to_be_asked_for() -> None:
    partition = opened("starter")
    partition.fold(reverse(used(partition, 14)))
    kept = []
    for days in (31, 62):
        partition.fold(TICK, at=NOON + days * DAY_MS)
        kept.append(len(decode_account("acct", partition.accounts[b"acct"]).reversals))  # type: ignore[arg-type]
    assert kept == [1, 0]


def test_only_a_signed_command_makes_a_worker_read_the_past() -> None:
    signed = [reverse(3), rerate(4)]
    forged = [{**each, "signature": "0" * 64} for each in signed]
    others = [usage(note="org.apimage.account.reverse.v1"), command("release", {"hold_id": "h"})]
    records = [record(each) for each in (*forged, *others, *signed)]
    assert [place.event_offset for place in wanted(records, core())] == [3, 4]


def test_a_correction_in_kafkas_binary_mode_is_one_too() -> None:
    event = reverse(3)
    headers = [(f"ce_{name}", str(value).encode()) for name, value in event.items() if name != "data"]
    sent = record(event)._replace(value=orjson.dumps(event["data"]), headers=[("trace", b"1"), *headers])
    assert [place.event_offset for place in wanted([sent], core())] == [3]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_how_the_log_is_cut_and_what_producers_write_beside_it_make_no_difference(cut: int) -> None:
    partition = opened("prepaid", *TWO)
    events = [
        usage("image_analysis", images=14),
        usage("image_analysis", event_id="e2", note={"offset": 3, "and": 1}),
        reverse(3, "5"),
    ]
    partition.fold(*events[:cut])
    partition.fold(*events[cut:])
    assert partition.of("command-results")[-1]["reversal"]["credits"] == "5"


def test_a_captured_charge_can_be_taken_back_like_any_other() -> None:
    partition = opened("prepaid", *TWO)
    held = {"type": "org.apimage.usage.image_analysis.v1", "data": {"images": 4}}
    done = {**held, "id": "done", "source": "/services/ocr", "time": format_instant(NOON)}
    partition.fold(
        command("hold", {"hold_id": "h", "usage": held}, command_id="h"),
        command("capture", {"hold_id": "h", "usage": done}, command_id="k"),
    )
    (charge,) = partition.of("metered-records")
    assert answer(partition, reverse(charge["offset"]))["reversal"]["returned"] == "4"
    assert partition.balance() == "110"


def test_usage_is_rated_again_by_another_book_with_a_receipt_of_its_own() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    said = partition.fold(rerate(offset))
    entries = [(each["kind"], each["credits"], each["cause_id"]) for each in said if "kind" in each]
    assert entries == [("reversal", "14", "rerate1"), ("usage", "-14", "e1")]
    charge, again = partition.of("metered-records")
    names = ("outcome", "credits", "rated_credits", "first_offset", "price_book")
    assert [again[name] for name in names] == ["rerated", "0", "14", offset, "2026-01"]
    assert again["receipt"] == charge["receipt"]
    assert said[-1]["reversal"]["recharged"] == "14"
    assert answer(partition, rerate(offset, number=2))["reason"] == "already_reversed"


def test_what_was_rated_again_can_be_taken_back() -> None:
    partition = opened("prepaid", *TWO)
    again = answer(partition, rerate(used(partition, 14)))
    assert answer(partition, reverse(again["offset"]))["reversal"]["credits"] == "14"
    assert partition.balance() == "110"


def test_a_new_rating_that_cannot_be_done_leaves_the_old_one() -> None:
    partition = opened("prepaid", *TWO)
    offset = used(partition, 14)
    assert answer(partition, rerate(offset, "1999-12"))["reason"] == "unknown_price_book"
    assert partition.balance() == "96"


def test_a_book_rates_nothing_again_before_it_has_taken_force() -> None:
    partition = opened("prepaid", *TWO)
    offset, hour = used(partition, 14), 3_600_000
    partition.fold(publication(flat_book("dear", effective_from=NOON + hour, image_analysis="2")))
    early = answer(partition, rerate(offset, "dear"), at=NOON + hour - 1)
    assert (early["reason"], early["detail"]) == (
        "unknown_price_book",
        "expected one of 2026-01, which have taken force by now, got 'dear'",
    )
    again = rerate(offset, "dear", number=2, at=NOON + hour)
    assert answer(partition, again, at=NOON + hour)["reversal"]["recharged"] == "28"


def test_reversals_re_arm_no_alert_and_count_down_what_is_used() -> None:
    partition = opened("starter")
    offset = used(partition, 400)
    partition.fold(reverse(offset, "200"))
    used(partition, 200, event_id="e2")
    assert [each["threshold"] for each in partition.of("alerts")] == [80]
    used(partition, 100, event_id="e3")
    assert [each["threshold"] for each in partition.of("alerts")] == [80, 100]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 60),
    st.booleans(),
)
def test_a_reversal_restores_the_state_of_the_smaller_use(
    grants: list[int], before: int, smaller: int, more: int, overage: bool
) -> None:
    """Whatever paid for it, overage among it: grants, balance, and room for overage are as if less had been used."""
    packs = [issue_grant(str(amount), grant_id=f"g{n}", priority=n) for n, amount in enumerate(grants)]
    settings = command("configure", {"overage_ceiling": "200" if overage else None})
    whole, part = opened("prepaid", *packs, settings), opened("prepaid", *packs, settings)
    said: dict[str, Any] = {}
    for partition, images in ((part, smaller), (whole, smaller + more)):
        partition.fold(usage("image_analysis", event_id="before", images=before))
        said = partition.fold(usage("image_analysis", event_id="e", images=images))[-1]
        if said["outcome"] == "denied":
            return
    if more:
        assert answer(whole, reverse(said["offset"], str(more)))["reason"] == ""
    assert whole.left() == part.left()
    names = ("posted", "available", "overage", "held")
    states = [[partition.of("balances")[-1][name] for name in names] for partition in (whole, part)]
    assert states[0] == states[1]
