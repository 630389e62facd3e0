"""Price books and plan catalogues that are published while the system runs: what is refused, and when each counts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pipeline.domain.instants import HOUR_MS, SECOND_MS, format_instant
from pipeline.domain.schedules import VERSIONS_MAX
from pipeline.state import decode_cursor, encode_cursor, price_book_key
from tests.builders import (
    NOON,
    TICK,
    Partition,
    catalog,
    command,
    flat_book,
    issue_grant,
    open_account,
    publication,
    usage,
)

SOON = "takes_force_too_soon"
MINUTE = 60 * SECOND_MS
DAY = 24 * HOUR_MS
LATER = NOON + HOUR_MS
A_MONTH_ON = NOON + 30 * DAY
"""From 23 November to 23 December, noon: when a period ends that began now."""


def published(*contents: Mapping[str, Any], plan: str = "starter") -> Partition:
    """A partition with one account on `plan`, and these versions published at noon."""
    partition = Partition()
    partition.fold(open_account(plan))
    for content in contents:
        (answer,) = partition.fold(publication(content, command_id=str(content["version"])))
        assert answer["outcome"] == "accepted", answer
    return partition


@pytest.mark.parametrize(
    ("content", "outcome", "reason"),
    [
        pytest.param(flat_book("2026-01", effective_from=LATER), "refused", "version_exists", id="other content"),
        pytest.param(flat_book("b", effective_from=NOON + MINUTE - 1), "refused", SOON, id="59.999 s"),
        pytest.param(flat_book("b", effective_from=0), "refused", SOON, id="in the past"),
        pytest.param(flat_book("b", effective_from=LATER - 1), "refused", "before_the_newest", id="before the newest"),
        pytest.param(flat_book("b", effective_from=LATER), "accepted", "", id="with the newest"),
        pytest.param(catalog("b", effective_from=NOON + MINUTE - 1), "refused", SOON, id="plans, 59.999 s"),
        pytest.param(catalog("b", effective_from=NOON + MINUTE), "accepted", "", id="plans, 60 s"),
        pytest.param(catalog("b", effective_from=LATER, without="pro"), "refused", "plan_missing", id="a plan less"),
        pytest.param(catalog("b", effective_from=LATER, max="9"), "accepted", "", id="a plan more"),
    ],
)  # fmt: skip
def test_a_version_is_published_unless_a_rule_of_the_schedule_forbids_it(
    content: dict[str, Any], outcome: str, reason: str
) -> None:
    partition = published(flat_book("newest", effective_from=LATER))
    (answer,) = partition.fold(publication(content))

    assert (answer["outcome"], answer["reason"]) == (outcome, reason), answer
    assert answer["account_id"] == "__schedule__"
    assert answer["publication"]["version"] == content["version"]


def test_a_plan_keeps_its_price_for_overage() -> None:
    content = catalog("b", effective_from=LATER)
    content["plans"] = [{**each, "overage_price": None} for each in content["plans"]]
    (answer,) = published().fold(publication(content))

    assert (answer["reason"], "keep a price for overage" in answer["detail"]) == ("plan_missing", True)


def test_the_same_content_again_is_a_duplicate_whoever_says_it() -> None:
    book = flat_book("b", effective_from=LATER)
    partition = published(book)
    reordered = dict(reversed(book.items()))
    again = [publication(book, command_id="b"), publication(reordered, command_id="other")]
    answers = partition.fold(*again, again[1])

    said = [(each["outcome"], each["first_outcome"], each["first_offset"]) for each in answers]
    assert said == [("duplicate", "accepted", 1), ("duplicate", "accepted", 1), ("duplicate", "accepted", 3)]
    assert partition.cursor is not None
    assert [each.version for each in partition.cursor.price_books] == ["2026-01", "b"]


def test_a_refused_publication_is_refused_again_under_the_same_id() -> None:
    refused = publication(flat_book("b", effective_from=NOON))
    first, second = Partition().fold(refused, refused)

    assert (first["outcome"], second["outcome"], second["first_outcome"]) == (
        "refused",
        "duplicate",
        "refused",
    )
    assert second["reason"] == "takes_force_too_soon"


def test_a_recorded_publication_cannot_be_played_again_later() -> None:
    old = publication(flat_book("b", effective_from=NOON + 100 * DAY))
    (answer,) = Partition().fold(old, at=NOON + 4 * DAY)

    assert answer["reason"] == "too_late"


def test_a_schedule_has_a_bounded_number_of_versions() -> None:
    books = [flat_book(f"b{number}", effective_from=LATER) for number in range(VERSIONS_MAX)]
    partition = Partition()
    answers = [partition.fold(publication(each, command_id=each["version"]))[0] for each in books]

    assert [each["reason"] for each in answers] == [""] * (VERSIONS_MAX - 1) + ["too_many_versions"]


@pytest.mark.parametrize(("before_ms", "credits_"), [(1, "1"), (0, "3")])
def test_a_book_prices_what_is_accepted_from_its_instant_on(before_ms: int, credits_: str) -> None:
    partition = published(flat_book("b", effective_from=LATER))
    event = usage("image_analysis", at=NOON)  # The producer's clock does not choose the book.
    partition.fold(event, at=LATER - before_ms)

    assert partition.of("metered-records")[-1]["credits"] == credits_


def test_a_hold_keeps_the_price_of_the_book_it_was_placed_by() -> None:
    partition = published(flat_book("b", effective_from=LATER))
    kind = {"type": "org.apimage.usage.image_analysis.v1", "data": {}}
    done = {**kind, "id": "e", "source": "/s", "time": format_instant(NOON)}
    partition.fold(command("hold", {"hold_id": "h", "usage": kind, "seconds": 7200}, command_id="h"))
    partition.fold(command("capture", {"hold_id": "h", "usage": done}, command_id="k"), at=LATER)

    assert partition.of("metered-records")[-1]["price_book"] == "2026-01"
    assert partition.of("metered-records")[-1]["credits"] == "1"


def wakes_at_once(partition: Partition) -> None:
    """A tick at each boundary."""
    for month in range(1, 4):
        partition.fold(TICK, at=A_MONTH_ON + month * 31 * DAY)


def sleeps_through(partition: Partition) -> None:
    """Nothing for months, then one tick: as when all workers were down."""
    partition.fold(TICK, at=A_MONTH_ON + 3 * 31 * DAY)


@pytest.mark.parametrize("live", [wakes_at_once, sleeps_through])
def test_each_boundary_goes_by_the_plans_of_its_own_instant(live: Callable[[Partition], None]) -> None:
    partition = published(
        catalog("b", effective_from=A_MONTH_ON, starter="600"),
        catalog("c", effective_from=A_MONTH_ON + 40 * DAY, starter="700"),
    )
    live(partition)

    granted = [each["credits"] for each in partition.of("ledger") if each["kind"] == "grant"]
    assert granted == ["500", "600", "600", "700", "700"]


@pytest.mark.parametrize("live", [wakes_at_once, sleeps_through])
def test_a_period_is_billed_by_the_plans_of_its_last_millisecond(live: Callable[[Partition], None]) -> None:
    dearer = catalog("b", effective_from=A_MONTH_ON)
    dearer["plans"] = [{**each, "overage_price": "9"} for each in dearer["plans"] if each["paid"]] + [
        each for each in dearer["plans"] if not each["paid"]
    ]
    partition = published(dearer)
    partition.fold(command("configure", {"overage_ceiling": "100"}, command_id="s"))
    partition.fold(usage("image_analysis", images=510))
    live(partition)

    owed = [(each["overage"], each["overage_price"]) for each in partition.of("statements")]
    assert owed[:2] == [("10", "0.03"), ("0", "9")]


def test_a_partition_needs_no_release_that_bundles_what_it_was_given() -> None:
    partition = published(flat_book("b", effective_from=LATER))
    partition.core = replace(partition.core, bundled={})
    partition.fold(issue_grant(), usage("image_analysis"), at=LATER)

    assert partition.of("metered-records")[-1]["price_book"] == "b"


def test_content_that_is_not_what_the_cursor_says_stops_the_batch() -> None:
    partition = published(flat_book("b", effective_from=LATER))
    partition.published[price_book_key("b")] = partition.published[price_book_key("2026-01")]

    with pytest.raises(ValueError, match=r"expected the row '__price_book__/b' with SHA-256"):
        partition.fold(TICK)


def test_the_cursor_reads_back_with_its_schedules() -> None:
    partition = published(flat_book("b", effective_from=LATER), catalog("c", effective_from=LATER))
    assert partition.cursor is not None

    assert decode_cursor(encode_cursor(partition.cursor)) == partition.cursor
    assert [each.offset for each in partition.cursor.price_books] == [-1, 1]
