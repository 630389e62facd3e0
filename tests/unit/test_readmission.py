"""Usage that was set aside and is put back: design.md section 3, sentence by sentence."""

from typing import Any

import pytest

from pipeline.domain.instants import DAY_MS, HOUR_MS, format_instant
from tests.builders import NOON, Partition, command, core, open_account, record, usage

LATE = usage("image_analysis", event_id="late", at=NOON - 5 * DAY_MS, images=3)


def opened(plan: str = "starter", **rules: int) -> Partition:
    partition = Partition(core(**rules))
    partition.fold(open_account(plan))
    return partition


def readmit(
    event: dict[str, Any] = LATE,
    *,
    accepted_at: int = NOON,
    known: bool | None = None,
    number: int = 1,
    at: int = NOON,
) -> dict[str, Any]:
    """The command. `known`: the records have a copy, with the same content or not."""
    data: dict[str, Any] = {
        "usage": {name: event[name] for name in ("type", "id", "source", "time", "data")},
        "letter": {"partition": 0, "offset": 1, "accepted_at": format_instant(accepted_at)},
    }
    if known is not None:
        data["known"] = {"offset": 17, "same_content": known}
    return command("readmit", data, account=event["subject"], command_id=f"readmit{number}", at=at)


def test_late_usage_is_set_aside_with_its_bytes_and_has_not_used_up_its_identity() -> None:
    partition = opened()
    (letter,) = partition.fold(LATE)
    assert (letter["reason"], letter["event_id"]) == ("late", "late")
    assert partition.balance() == "500"

    (_, metered, answer) = partition.fold(readmit())

    assert (metered["outcome"], metered["credits"], metered["event_id"]) == ("metered", "3", "late")
    assert metered["occurred_at"] == format_instant(NOON - 5 * DAY_MS)
    assert (metered["offset"], answer["offset"], answer["outcome"]) == (2, 2, "accepted")
    assert partition.balance() == "497"


def test_late_usage_does_not_count_towards_the_limit_of_dead_letters() -> None:
    partition = opened()
    assert partition.run([_record(partition, LATE)]).dead_letters == 0
    too_late = usage(at=NOON - 36 * DAY_MS)
    assert partition.run([_record(partition, too_late)]).dead_letters == 1


def _record(partition: Partition, event: dict[str, Any]) -> Any:
    assert partition.cursor is not None
    return record(event, offset=partition.cursor.next_offset)


def test_without_a_late_lane_it_is_too_late() -> None:
    partition = opened(late_window_days=0)
    (letter,) = partition.fold(LATE)
    assert letter["reason"] == "too_late"


def test_it_is_put_back_once_however_often_it_was_set_aside() -> None:
    partition = opened()
    partition.fold(LATE, LATE, readmit(number=1))

    (again,) = partition.fold(readmit(number=2))
    (resent,) = partition.fold(LATE)

    assert (again["outcome"], again["reason"]) == ("refused", "usage_answered")
    assert (resent["outcome"], resent["first_offset"]) == ("duplicate", 3)
    assert partition.balance() == "497"


@pytest.mark.parametrize(("same", "reason"), [(True, "usage_answered"), (False, "conflict")])
def test_what_the_records_know_is_charged_never(same: bool, reason: str) -> None:
    partition = opened()
    (answer,) = partition.fold(readmit(known=same))
    assert (answer["outcome"], answer["reason"]) == ("refused", reason)
    assert "17" in answer["detail"]
    assert partition.balance() == "500"


def test_the_index_knows_better_than_a_look_that_was_too_early() -> None:
    partition = opened()
    partition.fold(usage("image_analysis", event_id="late", images=4))
    (answer,) = partition.fold(readmit())
    assert answer["reason"] == "conflict"


@pytest.mark.parametrize(
    ("behind_ms", "reason"),
    [(35 * DAY_MS, ""), (35 * DAY_MS + 1, "too_late"), (-300_000, ""), (-300_001, "too_early")],
)
def test_lateness_counts_from_the_first_acceptance(behind_ms: int, reason: str) -> None:
    partition = opened()
    event = usage("image_analysis", at=NOON - behind_ms)
    (*_, answer) = partition.fold(readmit(event, at=NOON + 20 * DAY_MS), at=NOON + 20 * DAY_MS)
    assert answer["reason"] == reason


def test_a_policy_that_blocks_it_denies_it_like_any_usage() -> None:
    partition = opened("free")
    event = usage("image_analysis", images=51, at=NOON - 5 * DAY_MS)
    (denied, answer) = partition.fold(readmit(event))
    assert (denied["outcome"], denied["reason"], answer["outcome"]) == (
        "denied", "insufficient_credits", "accepted",
    )  # fmt: skip
    assert partition.of("alerts")[0]["kind"] == "limit_reached"


def test_it_is_charged_to_the_period_in_which_it_is_put_back() -> None:
    partition = opened()
    later = NOON + 31 * DAY_MS
    partition.fold(readmit(at=later), at=later)
    (statement,) = partition.of("statements")
    assert statement["used"] == "0"
    assert partition.balance() == "497"


def test_a_letter_to_an_unknown_account_waits_until_it_is_opened() -> None:
    partition = opened()
    event = usage("image_analysis", account="new", at=NOON - HOUR_MS)
    (letter,) = partition.fold(event)
    (refused,) = partition.fold(readmit(event, number=1))
    partition.fold(open_account("starter", account="new", command_id="open2"))
    (_, metered, answer) = partition.fold(readmit(event, number=2))
    assert (letter["reason"], refused["reason"]) == ("unknown_account", "unknown_account")
    assert (metered["outcome"], answer["outcome"]) == ("metered", "accepted")
