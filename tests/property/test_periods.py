"""Periods: boundaries from the anchor each time, idle accounts like busy ones, and nothing bought is ever reset."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.domain.account import Account
from pipeline.domain.instants import DAY_MS, as_datetime, as_instant, format_instant
from pipeline.domain.period import months_after
from tests.builders import TICK, Partition, Record, command, core, issue_grant, open_account
from tests.property.logs import account_of, answer, branch, logs, played, small_plans, ticked

ANCHORS = st.datetimes(datetime(2023, 1, 1), datetime(2031, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
LEAP_DAY, JANUARY_31 = datetime(2024, 2, 29, tzinfo=UTC), datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)


def boundary(anchor: datetime, months: int) -> datetime:
    """The same day of the month so many months later, or the last day that the month has: counted day by day."""
    year, month = anchor.year, anchor.month
    for _ in range(months):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    moment = anchor.replace(year=year, month=month, day=1)
    while moment.day < anchor.day and (moment + timedelta(days=1)).month == month:
        moment += timedelta(days=1)
    return moment


@given(ANCHORS, st.integers(0, 60))
@example(LEAP_DAY, 12)
@example(LEAP_DAY, 48)
@example(JANUARY_31, 1)
@example(JANUARY_31, 2)
@example(JANUARY_31, 13)
def test_a_boundary_is_the_anchors_day_or_the_months_last(anchor: datetime, months: int) -> None:
    assert as_datetime(months_after(as_instant(anchor), months)) == boundary(anchor, months)


@given(ANCHORS, st.lists(st.integers(0, 400), max_size=6))
@example(LEAP_DAY, [400])
@example(JANUARY_31, [28, 31, 31])
def test_an_idle_account_has_every_period_once_whenever_ticks_come(anchor: datetime, days: list[int]) -> None:
    opened = as_instant(anchor)
    last = opened + sum(days) * DAY_MS
    often, once = Partition(), Partition()
    for partition in (often, once):
        partition.fold(open_account("starter", at=opened), at=opened)
    at = int(opened)
    for each in days:
        at += each * DAY_MS
        often.fold(TICK, at=at)
    once.fold(TICK, at=last)

    closed = [(each["period_start"], each["period_end"]) for each in often.of("statements")]
    starts = [boundary(anchor, months) for months in range(len(closed) + 2)]
    texts = [format_instant(as_instant(each)) for each in starts]
    assert closed == list(pairwise(texts))[:-1]
    assert as_instant(starts[-2]) <= last < as_instant(starts[-1])
    given_ = [each for each in often.of("ledger") if each["kind"] == "grant"]
    assert [each["booked_at"] for each in given_] == texts[:-1]
    assert booked(often) == booked(once)


def booked(partition: Partition) -> list[tuple[Any, ...]]:
    names = ("kind", "credits", "balance_after", "booked_at", "grants")
    return [tuple(each[name] for name in names) for each in partition.of("ledger")]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(31, 100))
def test_a_bounded_tick_delays_idle_accounts_and_changes_nothing_else(
    accounts: int, most: int, days: int
) -> None:
    bounded, unbounded = Partition(core(boundary_accounts_max=most)), Partition()
    anchor = as_instant(JANUARY_31)
    for partition in (bounded, unbounded):
        opening = [open_account("starter", account=f"a{n}", at=anchor + n) for n in range(accounts)]
        partition.fold(*opening, at=anchor)
    at = anchor + days * DAY_MS
    unbounded.fold(TICK, at=at)
    for _ in range(-(-accounts // most)):
        before = len({each["account_id"] for each in bounded.of("statements")})
        bounded.fold(TICK, at=at)
        assert len({each["account_id"] for each in bounded.of("statements")}) <= before + most

    for number in range(accounts):
        one, other = account_of(bounded, f"a{number}"), account_of(unbounded, f"a{number}")
        assert (one.subscription, one.grants, one.remaining) == (
            other.subscription,
            other.grants,
            other.remaining,
        )
        assert (one.posted, one.totals, one.entry_seq) == (other.posted, other.totals, other.entry_seq)


def lasting(account: Account, end: int) -> dict[str, int]:
    """What is left of everything that does not end with the period."""
    return {
        each.grant_id: left
        for each, left in zip(account.grants, account.remaining, strict=True)
        if left and (each.expires_at is None or each.expires_at > end)
    }


@given(logs(), st.sampled_from("ab"))
def test_a_reset_gives_one_monthly_grant_and_touches_nothing_that_was_bought(
    log: list[Record], name: str
) -> None:
    partition = played(ticked(log))
    end = account_of(partition, name).subscription.period_end
    partition.fold(TICK, at=end - 1)
    before = account_of(partition, name)
    partition.fold(TICK, at=end)
    after = account_of(partition, name)

    kept = lasting(before, end)
    assert before.subscription.period_end == end
    assert {key: left for key, left in lasting(after, end).items() if key in kept} == kept
    plans = {each["plan"]: int(each["monthly_credits"]) for each in small_plans()["plans"]}
    fresh = [
        left
        for each, left in zip(after.grants, after.remaining, strict=True)
        if each.grant_id.startswith("monthly:")
    ]
    monthly = plans[before.subscription.next_plan_id] * 1_000_000
    assert fresh == ([monthly] if monthly else [])
    assert after.subscription.period_start == end
    partition.fold(TICK, at=end)
    assert account_of(partition, name) == after


@given(st.integers(1, 30), st.sampled_from(["prepaid", "promotional", "goodwill"]))
def test_a_grant_that_begins_at_the_boundary_survives_it(credits_: int, kind: str) -> None:
    partition = Partition()
    opened = as_instant(JANUARY_31)
    end = as_instant(boundary(JANUARY_31, 1))
    pack = issue_grant(str(credits_), effective_at=format_instant(end), kind=kind, at=opened, expires_at=None)
    partition.fold(open_account("starter", at=opened), pack, at=opened)
    partition.fold(TICK, at=end)

    assert partition.left() == {f"monthly:{format_instant(end)[:10]}": 500 * 10**6, "pack": credits_ * 10**6}


@given(logs(), st.sampled_from("ab"), st.sampled_from(["pro", "business"]))
def test_an_upgrade_adds_the_difference_and_takes_nothing(log: list[Record], name: str, plan: str) -> None:
    partition = played(ticked(log))
    at, before = log[-1].timestamp, account_of(partition, name)
    twin = branch(partition)
    upgraded = answer(twin.fold(_change(name, plan, at), at=at))
    if (upgraded["plan_change"] or {}).get("effective_at") != format_instant(at):
        return  # Refused, or not larger than the plan that it has.
    after = account_of(twin, name)

    credits_ = {each["plan"]: int(each["monthly_credits"]) * 10**6 for each in small_plans()["plans"]}
    difference = credits_[plan] - credits_[before.subscription.plan_id]
    # What is used up may leave the account at any time.
    old = {each: left for each, left in zip(before.grants, before.remaining, strict=True) if left}
    new = dict(zip(after.grants, after.remaining, strict=True))
    assert {each: left for each, left in new.items() if each in old} == old
    assert [left for each, left in new.items() if left and each not in old] == [difference]
    assert (after.posted, after.held) == (before.posted + difference, before.held)
    assert after.subscription.anchor == (before.subscription.anchor if _paid(before) else at)


def _paid(account: Account) -> bool:
    return account.subscription.plan_id != "free"


def _change(name: str, plan: str, at: int) -> dict[str, Any]:
    return command("change_plan", {"plan": plan}, account=name, command_id="upgrade", at=at)
