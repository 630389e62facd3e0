"""A reversal leaves what the smaller use would have left, and never gives more than was charged."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.account import Account
from pipeline.domain.credits import format_credits, parse_credits
from tests.builders import TICK, Partition, Record, command, issue_grant, open_account, usage
from tests.property.logs import GAP, account_of, answer, branch, logs, played, ticked


def reverse(offset: int, name: str, amount: int, *, at: int, number: int = 0) -> dict[str, Any]:
    data = {
        "record": {"partition": 0, "offset": 0, "event_offset": offset},
        "credits": format_credits(amount),
    }
    return command("reverse", data, account=name, command_id=f"back:{number}", at=at)


def left(account: Account) -> tuple[object, ...]:
    totals = account.totals
    net = totals.used - totals.reversed
    return account.grants, account.remaining, account.held, account.posted, totals.overage, net


@given(logs(), st.sampled_from("ab"), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_use_and_reversal_leave_what_the_smaller_use_leaves(
    log: list[Record], name: str, images: int, less: int, in_two: bool
) -> None:
    larger = played(ticked(log))
    smaller, at, less = branch(larger), log[-1].timestamp, min(less, images)
    event = usage("image_analysis", account=name, event_id="use", at=at, images=images)
    used = answer(larger.fold(event, at=at))
    if used["outcome"] != "metered" or used["credits"] == "0":
        return
    back = parse_credits(used["credits"]) * less // images
    parts = [back // 3, back - back // 3] if in_two else [back]
    for number, part in enumerate(parts):
        ask = reverse(used["offset"], name, part, at=at, number=number)
        assert answer(larger.fold(ask, at=at))["outcome"] == "accepted"
    if images > less:
        event = usage("image_analysis", account=name, event_id="use", at=at, images=images - less)
        smaller.fold(event, at=at)

    assert left(account_of(larger, name)) == left(account_of(smaller, name))


@given(logs())
def test_no_more_is_taken_back_than_was_charged(log: list[Record]) -> None:
    costs: dict[int, int] = defaultdict(int)
    for each in played(log).of("metered-records"):
        charge = each["first_offset"] if each["outcome"] == "reversed" else each["offset"]
        rerated = each["outcome"] == "rerated"
        costs[charge] += parse_credits(each["rated_credits"] if rerated else each["credits"])

    assert all(cost >= 0 for cost in costs.values())


@given(logs())
def test_every_credit_that_is_taken_back_returns_or_expires_or_is_not_owed(log: list[Record]) -> None:
    for each in played(log).of("results"):
        back = each["reversal"]
        if back is not None and each["outcome"] == "accepted":
            names = ("credits", "returned", "expired", "overage")
            taken, *went = (parse_credits(back[name]) for name in names)
            assert taken == sum(went)
            assert min(taken, *went) >= 0
            assert back["event_offset"] % GAP == 0


@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 3))
def test_overage_of_a_closed_period_is_given_back_by_the_statement_of_the_running_one(
    overage: int, back: int, grant: int
) -> None:
    partition = Partition()
    settings = command("configure", {"overage_ceiling": "9"}, command_id="settings")
    partition.fold(open_account("starter"), issue_grant(str(grant)), settings)
    end = account_of(partition, "acct").subscription.period_end
    used = usage("image_analysis", images=500 + grant + overage, at=end - 1)
    (_, _, metered) = partition.fold(used, at=end - 1)[-3:]
    result = answer(partition.fold(reverse(metered["offset"], "acct", back * 10**6, at=end), at=end))
    for _ in range(2):
        partition.fold(TICK, at=account_of(partition, "acct").subscription.period_end)

    first, second, third = partition.of("statements")
    expected = min(back, overage)
    assert result["reversal"]["overage"] == str(expected)
    assert (first["overage"], second["overage"]) == (str(overage), "0")
    assert second["overage_returned"] == str(expected)
    assert third["overage_returns"] == []
    (returned,) = second["overage_returns"]
    assert (returned["credits"], returned["period_end"]) == (str(expected), first["period_end"])
    assert Decimal(returned["amount"]) == Decimal(expected) * Decimal(first["overage_price"])
