"""No credit is made or lost, none is taken out of turn, and nothing is below zero, after every record of every log."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.account import Account, available
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import NEVER, Grant, burn_down, burn_order
from tests import builders
from tests.builders import NOON, Partition, Record, issue_grant, open_account, usage
from tests.property.logs import account_of, accounts_of, logs, played, ticked

OVERAGE = "overage"


def moved(entries: list[dict[str, Any]]) -> dict[str, int]:
    """Grant → what its entries come to."""
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        sign = -1 if entry["credits"].startswith("-") else 1
        for share in entry["grants"]:
            sums[share["grant_id"]] += sign * parse_credits(share["credits"])
    return sums


def there(account: Account) -> dict[str, int]:
    """Grant → what is left of it and what holds took from it."""
    sums: dict[str, int] = defaultdict(int)
    for each, left in zip(account.grants, account.remaining, strict=True):
        sums[each.grant_id] += left
    for hold in account.holds:
        for share in hold.shares:
            sums[share.grant_id] += share.credits if share.grant_id != OVERAGE else 0
    return sums


@given(logs())
def test_after_every_record_all_credits_are_somewhere_and_nothing_is_below_zero(log: list[Record]) -> None:
    """What was granted is left, held, used, expired or voided; no overage is beyond its ceiling."""
    partition = Partition()
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ceilings: dict[str, int] = defaultdict(int)
    for each in log:
        folded = partition.run([each])
        for said in partition.apply(folded):
            if "entry_hash" in said:
                entries[said["account_id"]].append(said)
        for name in (key.decode() for key in folded.accounts):
            account = account_of(partition, name)
            ceilings[name] = max(ceilings[name], account.policy.overage_ceiling or 0)
            assert nonzero(moved(entries[name])) == nonzero(there(account))
            assert account.posted == sum(account.remaining) + account.held == sum(there(account).values())
            assert min(0, *account.totals, *account.remaining, account.held, available(account)) == 0
            sizes = [grant.credits for grant in account.grants]
            assert all(left <= size for left, size in zip(account.remaining, sizes, strict=True))
            assert account.totals.overage <= ceilings[name]
            assert all(parse_credits(entry["balance_after"]) >= 0 for entry in entries[name])


def nonzero(sums: dict[str, int]) -> dict[str, int]:
    return {name: credits_ for name, credits_ in sums.items() if credits_}


@given(logs())
def test_the_balance_is_the_sum_of_the_entries_and_that_of_the_totals(log: list[Record]) -> None:
    partition = played(log)

    sums: dict[str, int] = defaultdict(int)
    for entry in partition.of("ledger"):
        sums[entry["account_id"]] += parse_credits(entry["credits"])
        assert parse_credits(entry["balance_after"]) == sums[entry["account_id"]]
        assert abs(parse_credits(entry["credits"])) == sum(
            parse_credits(each["credits"]) for each in entry["grants"]
        )
    for account_id, account in accounts_of(partition).items():
        opening, granted, used, expired, voided, overage, taken_back, returned = account.totals
        assert account.posted == sums[account_id]
        assert opening + granted + overage + taken_back - used - expired - voided - returned == account.posted


def in_turn(account: Account, amount: int) -> list[tuple[str, int]]:
    """Who pays, by the order of product.md section 2, said once more: priority, soonest end, age, name."""

    def turn(place: int) -> tuple[int, int, int, str]:
        each: Grant = account.grants[place]
        ends = NEVER if each.expires_at is None else each.expires_at
        return each.priority, ends, each.created_at, each.grant_id

    shares: list[tuple[str, int]] = []
    for place in sorted(range(len(account.grants)), key=turn):
        part = min(amount, account.remaining[place])
        amount -= part
        shares += [(account.grants[place].grant_id, part)] if part else []
    return [*shares, (OVERAGE, amount)] if amount else shares


@given(logs())
def test_every_charge_is_paid_by_the_grants_in_their_turn(log: list[Record]) -> None:
    partition = Partition()
    for each in ticked(log):
        before = accounts_of(partition)
        for said in partition.apply(partition.run([each])):
            if said.get("outcome") == "metered" and said["receipt"]["grants"] and not _of_command(each):
                paid = [
                    (share["grant_id"], parse_credits(share["credits"]))
                    for share in said["receipt"]["grants"]
                ]
                assert paid == in_turn(before[said["account_id"]], parse_credits(said["credits"]))


def _of_command(each: Record) -> bool:
    return b"org.apimage.account." in (each.value or b"")


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.none() | st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=8
    ),
    st.data(),
)
def test_no_credit_is_taken_from_a_grant_while_one_before_it_has_any(
    terms: list[tuple[int, int | None, int]], data: st.DataObject
) -> None:
    grants = sorted(
        [
            builders.grant(
                f"g{n}", str(size), priority=priority, expires_at=None if days is None else NOON + days
            )
            for n, (priority, days, size) in enumerate(terms)
        ],
        key=burn_order,
    )
    amount = Credits(data.draw(st.integers(1, sum(each.credits for each in grants))))

    left, shares = burn_down(grants, [each.credits for each in grants], amount)

    assert sum(share.credits for share in shares) == amount
    touched = [each.credits - rest for each, rest in zip(grants, left, strict=True)]
    assert all(rest == 0 for rest in left[: max(n for n, taken in enumerate(touched) if taken)])


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=2, max_size=5),
    st.randoms(),
    st.integers(1, 9),
)
def test_the_order_in_which_grants_are_given_does_not_matter(
    terms: list[tuple[int, int]], random: Any, images: int
) -> None:
    given_ = [
        issue_grant(str(size), grant_id=f"g{n}", priority=priority)
        for n, (priority, size) in enumerate(terms)
    ]
    shuffled = given_.copy()
    random.shuffle(shuffled)
    one, other = Partition(), Partition()
    for partition, grants in ((one, given_), (other, shuffled)):
        partition.fold(open_account("prepaid"), *grants, usage("image_analysis", images=images))

    assert one.left() == other.left()


@given(logs())
def test_statements_add_up_follow_each_other_and_are_said_once(log: list[Record]) -> None:
    partition = played(ticked(log))
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in partition.of("ledger"):
        entries[entry["account_id"]].append(entry)
    last: dict[str, dict[str, Any]] = {}
    for each in partition.of("statements"):
        before = last.get(each["account_id"])
        last[each["account_id"]] = each
        first = before["last_entry_seq"] if before else 0
        _adds_up(each, entries[each["account_id"]][first : each["last_entry_seq"]])
        if before:
            assert (each["period_start"], each["opening"]) == (before["period_end"], before["closing"])
        else:
            assert each["opening"] == "0"
        assert each["period_start"] <= each["period_end"]


def _adds_up(statement: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    names = (
        "opening",
        "granted",
        "overage",
        "reversed",
        "used",
        "expired",
        "voided",
        "overage_returned",
        "closing",
    )
    says = {name: parse_credits(statement[name]) for name in names}
    assert min(says.values()) >= 0
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        sums[entry["kind"]] += parse_credits(entry["credits"])
    assert (sums["grant"], -sums["usage"], -sums["expiration"]) == (
        says["granted"],
        says["used"],
        says["expired"],
    )
    assert (-sums["void"], sums["reversal"]) == (says["voided"], says["reversed"])
    assert sums["overage"] == says["overage"] - says["overage_returned"]
    assert says["opening"] + sum(sums.values()) == says["closing"]
    price = Decimal(statement["overage_price"] or 0)
    assert Decimal(statement["overage_amount"]) == Decimal(statement["overage"]) * price
    returned = [parse_credits(each["credits"]) for each in statement["overage_returns"]]
    assert sum(returned) == says["overage_returned"]
