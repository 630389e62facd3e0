"""Holds: exactly those that fit are admitted, each ends once, and what is not used is as if never taken."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.account import available
from pipeline.domain.credits import format_credits, parse_credits
from pipeline.domain.instants import HOUR_MS, SECOND_MS, format_instant
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
from tests.property.logs import SOURCE, account_of, answer, branch, logs, played, ticked

ANALYSIS = "org.apimage.usage.image_analysis.v1"
micros = st.integers(1, 5_000_000)


def hold(hold_id: str = "h", *, account: str = "acct", at: int = NOON, **terms: Any) -> dict[str, Any]:
    return command(
        "hold", {"hold_id": hold_id, **terms}, account=account, command_id=f"hold:{hold_id}", at=at
    )


def capture(images: int, *, account: str = "acct", at: int = NOON, number: int = 0) -> dict[str, Any]:
    done = {
        "type": ANALYSIS, "id": "done", "source": SOURCE, "time": format_instant(at), "data": {"images": images},
    }  # fmt: skip
    terms = {"hold_id": "h", "usage": done}
    return command("capture", terms, account=account, command_id=f"capture:{number}", at=at)


def release(*, account: str = "acct", at: int = NOON, number: int = 0) -> dict[str, Any]:
    return command("release", {"hold_id": "h"}, account=account, command_id=f"release:{number}", at=at)


@given(st.lists(micros, min_size=1, max_size=4), micros, st.none() | micros)
def test_of_concurrent_holds_exactly_as_many_are_admitted_as_fit(
    grants: list[int], each: int, ceiling: int | None
) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"))
    partition.fold(*[issue_grant(format_credits(size), grant_id=f"g{n}") for n, size in enumerate(grants)])
    if ceiling is not None:
        partition.fold(command("configure", {"overage_ceiling": format_credits(ceiling)}))
    room = sum(grants) + (ceiling or 0)
    asked = min(room // each + 3, 40)

    said = partition.fold(*[hold(f"h{n}", credits=format_credits(each)) for n in range(asked)])

    admitted = [result["outcome"] for result in said].count("accepted")
    assert admitted == min(room // each, asked)
    assert available(account_of(partition, "acct")) == room - admitted * each


@given(logs(), st.sampled_from("ab"), st.integers(0, 100))
def test_a_hold_that_is_released_or_expires_leaves_every_grant_as_it_was(
    log: list[Record], name: str, percent: int
) -> None:
    partition = played(ticked(log))
    at = log[-1].timestamp
    before = account_of(partition, name)
    amount = available(before) * percent // 100
    if not amount or at + SECOND_MS >= before.next_boundary:
        return
    asked = hold(account=name, at=at, credits=format_credits(amount), seconds=1)
    placed = answer(partition.fold(asked, at=at))
    assert placed["outcome"] == "accepted"
    expired = branch(partition)
    partition.fold(release(account=name, at=at), at=at)
    expired.fold(TICK, at=at + SECOND_MS)

    for after in (account_of(partition, name), account_of(expired, name)):
        assert (after.grants, after.remaining, after.held) == (before.grants, before.remaining, before.held)
        assert (after.holds, after.totals, after.posted) == (before.holds, before.totals, before.posted)


@given(logs(), st.sampled_from("ab"), st.integers(1, 6), st.integers(0, 3))
def test_hold_then_capture_equals_direct_use(log: list[Record], name: str, images: int, more: int) -> None:
    held = played(ticked(log))
    at = log[-1].timestamp
    direct = branch(held)
    asked = {"type": ANALYSIS, "data": {"images": images + more}}
    placed = answer(held.fold(hold(account=name, at=at, usage=asked), at=at))
    if placed["outcome"] != "accepted":
        return
    assert answer(held.fold(capture(images, account=name, at=at), at=at))["outcome"] == "accepted"
    direct.fold(usage("image_analysis", account=name, event_id="done", at=at, images=images), at=at)

    one, other = account_of(held, name), account_of(direct, name)
    assert (one.grants, one.remaining, one.held) == (other.grants, other.remaining, other.held)
    assert (one.totals, one.posted, one.entry_seq) == (other.totals, other.posted, other.entry_seq)


TRIES = st.tuples(
    st.sampled_from(["capture", "release", "tick"]), st.sampled_from([0, 1, 29_999, 30_000, 59_999])
)


@given(st.lists(TRIES, max_size=5), st.integers(1, 90), st.integers(1, 9))
def test_of_capture_release_and_expiry_exactly_one_wins(
    tries: list[tuple[str, int]], seconds: int, images: int
) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant("9"))
    partition.fold(hold(usage={"type": ANALYSIS, "data": {"images": 9}}, seconds=seconds))
    end, at = "", int(NOON)
    for number, (what, later) in enumerate(tries):
        at += later
        end = end or ("hold_expired" if at >= NOON + seconds * SECOND_MS else "")
        if what == "tick":
            partition.fold(TICK, at=at)
            continue
        ask = capture(images, at=at, number=number) if what == "capture" else release(at=at, number=number)
        result = partition.fold(ask, at=at)[-1]
        assert (result["outcome"], result["reason"]) == (("refused", end) if end else ("accepted", ""))
        end = end or f"hold_{what}d"
    partition.fold(TICK, at=at + 90_000)

    assert partition.balance() == str(9 - images if end == "hold_captured" else 9)
    assert account_of(partition, "acct").held == 0


@given(logs())
def test_every_hold_of_a_log_ends_at_most_once_and_in_time(log: list[Record]) -> None:
    placed: dict[tuple[str, str], str] = {}
    ended: set[tuple[str, str]] = set()
    for each in played(log).of("results"):
        if each["outcome"] != "accepted" or each["hold"] is None:
            continue
        name = each["account_id"], each["hold"]["hold_id"]
        if each["type"].endswith(".hold.v1"):
            assert name not in placed
            placed[name] = each["hold"]["expires_at"]
        else:
            assert name in placed
            assert name not in ended
            assert each["accepted_at"] < placed[name]
            ended.add(name)


@given(st.sampled_from(["1", "2", "0.5", "7"]), st.integers(1, 10), st.integers(1, 10))
def test_a_hold_keeps_the_price_that_it_was_placed_by(dearer: str, asked: int, done: int) -> None:
    partition = Partition()
    changes = NOON + 120 * SECOND_MS
    book = flat_book("next", effective_from=changes, image_analysis=dearer)
    partition.fold(open_account("prepaid"), issue_grant("100"), publication(book))
    partition.fold(hold(usage={"type": ANALYSIS, "data": {"images": asked}}))

    *_, result = partition.fold(capture(done, at=changes), at=changes)

    assert result["outcome"] == ("accepted" if done <= asked else "refused")
    assert partition.balance() == str(100 - (done if done <= asked else 0))


@given(st.integers(0, 12_000_000), st.integers(1, 20), st.sampled_from([1, 2]))
def test_a_partial_hold_is_for_as_many_images_as_fit(balance: int, images: int, price: int) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"))
    if balance:
        partition.fold(issue_grant(format_credits(balance)))
    service = "image_analysis" if price == 1 else "background_removal"
    asked = {"type": f"org.apimage.usage.{service}.v1", "data": {"images": images}}

    (result,) = partition.fold(hold(usage=asked, partial=True))

    fit = min(images, balance // (price * 1_000_000))
    assert result["outcome"] == ("accepted" if fit else "refused")
    if fit:
        assert (result["hold"]["images"], parse_credits(result["hold"]["credits"])) == (
            fit,
            fit * price * 10**6,
        )


@given(st.integers(1, 40), st.booleans())
def test_a_capture_after_the_end_is_refused_ticked_or_not(seconds: int, ticked_: bool) -> None:
    partition = Partition()
    partition.fold(open_account("prepaid"), issue_grant("9"), hold(credits="5", seconds=seconds))
    ends = NOON + seconds * SECOND_MS
    if ticked_:
        partition.fold(TICK, at=ends)
    for at in (ends, ends + HOUR_MS):
        result = partition.fold(capture(2, at=at, number=at), at=at)[-1]
        assert (result["outcome"], result["reason"]) == ("refused", "hold_expired")
    assert partition.balance() == "9"


@given(st.integers(1, 4), st.booleans(), st.integers(0, 3))
def test_captured_usage_is_charged_once_whichever_way_it_comes_again(
    images: int, captured_first: bool, later: int
) -> None:
    partition = Partition()
    asked = {"type": ANALYSIS, "data": {"images": 5}}
    partition.fold(open_account("prepaid"), issue_grant("9"), hold(usage=asked))
    direct = usage("image_analysis", event_id="done", source=SOURCE, images=images)
    first, second = (capture(images), direct) if captured_first else (direct, capture(images))
    partition.fold(first)
    again = answer(partition.fold(second, at=NOON + later))

    assert again["reason"] == ("duplicate" if captured_first else "usage_answered")
    assert partition.balance() == str(9 - images)
