"""The core's rules on one partition, in the order in which they are applied."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.domain.instants import HOUR_MS, format_instant
from pipeline.metering import Batch
from tests.builders import (
    NOON,
    TICK,
    Partition,
    command,
    core,
    issue_grant,
    micros,
    open_account,
    record,
    usage,
)

DAY = 24 * HOUR_MS


def opened(plan: str = "free") -> Partition:
    partition = Partition()
    partition.fold(open_account(plan))
    return partition


def outcome(said: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Outcome, reason and credits of the last record on usage; a dead letter has only its reason."""
    last = said[-1]
    return last.get("outcome", "dead_letter"), last["reason"], last.get("credits", "")


def test_opening_gives_the_plans_monthly_credits_at_once_until_the_periods_end() -> None:
    partition = opened("starter")

    entry = partition.of("ledger")[0]
    assert (entry["kind"], entry["credits"], entry["entry_seq"]) == ("grant", "500", 1)
    (grant,) = partition.of("balances")[0]["grants"]
    assert grant["expires_at"] == "2026-12-23T12:00:00.000Z"


def test_a_charge_carries_a_receipt_that_explains_it() -> None:
    partition = opened("prepaid")
    partition.fold(issue_grant("3", grant_id="first"), issue_grant("100", grant_id="second"))

    (_, metered) = partition.fold(
        usage(quality="high", images=4, width=1024, height=1024, model="x-1"), at=NOON + 5
    )

    assert (metered["outcome"], metered["credits"], metered["price_book"]) == ("metered", "8", "2026-01")
    assert metered["receipt"]["inputs"] == {"quality": "high", "images": 4, "width": 1024, "height": 1024}
    assert metered["receipt"]["steps"] == [
        {
            "rule": "quality_by_size",
            "detail": "high quality, 1.048576 megapixels (at most 1.1 megapixels): 2 per image",
            "credits_per_image": "2",
        }
    ]
    assert metered["receipt"]["grants"] == [
        {"grant_id": "first", "credits": "3"},
        {"grant_id": "second", "credits": "5"},
    ]
    assert (metered["receipt"]["balance_before"], metered["receipt"]["balance_after"]) == ("103", "95")
    assert metered["attributes"] == {"model": "x-1"}


@pytest.mark.parametrize(
    ("plan", "credits", "images", "expected"),
    [
        ("prepaid", "10", 10, ("metered", "", "10")),
        ("prepaid", "10", 11, ("denied", "insufficient_credits", "0")),
        ("prepaid", None, 1, ("denied", "credits_exhausted", "0")),
        ("free", None, 50, ("metered", "", "50")),
        ("free", None, 51, ("denied", "insufficient_credits", "0")),
    ],
)
def test_a_request_is_charged_whole_or_not_at_all(
    plan: str,
    credits: str | None,
    images: int,
    expected: tuple[str, str, str],
) -> None:
    partition = opened(plan)
    if credits is not None:
        partition.fold(issue_grant(credits))

    assert outcome(partition.fold(usage("image_analysis", images=images))) == expected


def test_a_free_plan_at_100_percent_is_paused() -> None:
    partition = opened("free")
    partition.fold(usage("image_analysis", images=50))

    (denied,) = partition.fold(usage("image_analysis", event_id="e2"))

    assert (denied["reason"], denied["rated_credits"], denied["balance_after"]) == ("plan_paused", "1", "0")


def test_the_same_event_again_is_a_duplicate_with_the_first_answer_and_no_charge() -> None:
    partition = opened()
    partition.fold(usage())

    again = usage(at=NOON - 1000)  # Another time: a producer that stamps each try. The content is the same.
    (duplicate,) = partition.fold(again, at=NOON + 2000)

    assert (duplicate["outcome"], duplicate["credits"], duplicate["rated_credits"]) == ("duplicate", "0", "1")
    assert duplicate["first_offset"] == 1
    assert partition.left() == {"monthly:2026-11-23": micros("49")}


def test_the_same_id_with_other_content_is_a_conflict_and_never_charged() -> None:
    partition = opened()
    partition.fold(usage())

    assert outcome(partition.fold(usage(quality="high"))) == ("dead_letter", "conflict", "")
    assert partition.left() == {"monthly:2026-11-23": micros("49")}


def test_the_same_id_from_another_source_is_another_event() -> None:
    partition = opened()
    partition.fold(usage())

    assert outcome(partition.fold(usage(source="/services/other"))) == ("metered", "", "1")


def test_a_denied_event_stays_denied_when_it_is_sent_again_after_a_top_up() -> None:
    partition = opened()
    partition.fold(usage("image_analysis", images=60))
    partition.fold(issue_grant("1000"))

    (again,) = partition.fold(usage("image_analysis", images=60))

    assert (again["outcome"], again["reason"], again["credits"]) == ("duplicate", "insufficient_credits", "0")


def test_a_dead_letter_has_not_used_up_its_identity() -> None:
    partition = Partition()

    assert outcome(partition.fold(usage()))[1] == "unknown_account"
    partition.fold(open_account())
    assert outcome(partition.fold(usage())) == ("metered", "", "1")


@pytest.mark.parametrize(
    ("behind_ms", "expected"),
    [
        (0, "metered"),
        (72 * HOUR_MS, "metered"),
        (72 * HOUR_MS + 1, "late"),
        (35 * DAY, "late"),
        (35 * DAY + 1, "too_late"),
        (-300_000, "metered"),
        (-300_001, "too_early"),
    ],
)
def test_the_producers_clock_must_lie_in_the_window(behind_ms: int, expected: str) -> None:
    partition = Partition()
    partition.fold(open_account("starter", at=NOON - 4 * DAY), at=NOON - 4 * DAY)

    kind, reason, _ = outcome(partition.fold(usage(at=NOON - behind_ms), at=NOON))

    assert (reason or kind) == expected


def test_a_resend_is_known_for_as_long_as_it_would_be_accepted() -> None:
    """First copy 5 minutes ahead of its time, the resend 72 hours after it: the longest gap there can be."""
    partition = opened("starter")
    ahead = NOON + 300_000
    partition.fold(usage(at=ahead), at=NOON)

    assert outcome(partition.fold(usage(at=ahead), at=ahead + 72 * HOUR_MS))[0] == "duplicate"
    assert outcome(partition.fold(usage(at=ahead), at=ahead + 72 * HOUR_MS + 1))[1] == "late"


def test_acceptance_is_the_brokers_clock_and_never_goes_back() -> None:
    partition = opened()
    partition.fold(usage(), at=NOON + 9000)

    (_, second) = partition.fold(usage(event_id="e2"), at=NOON + 1)

    assert second["accepted_at"] == format_instant(NOON + 9000)


def test_grants_burn_by_priority_then_soonest_expiry_then_creation_then_id() -> None:
    partition = opened("prepaid")
    kinds: dict[str, dict[str, Any]] = {
        "b": {},
        "a": {},
        "soon": {"expires_at": format_instant(NOON + DAY)},
        "first": {"priority": 0},
    }
    for grant_id, terms in kinds.items():
        partition.fold(issue_grant("1", grant_id=grant_id, **terms))

    (entry, _) = partition.fold(usage("image_analysis", images=4))

    assert [share["grant_id"] for share in entry["grants"]] == ["first", "soon", "a", "b"]


def test_a_grant_expires_at_its_instant_and_not_before() -> None:
    partition = opened("prepaid")
    partition.fold(issue_grant("10", expires_at=format_instant(NOON + 1000)))

    assert outcome(partition.fold(usage("image_analysis"), at=NOON + 999))[0] == "metered"
    said = partition.fold(usage("image_analysis", event_id="e2"), at=NOON + 1000)

    assert outcome(said) == ("denied", "credits_exhausted", "0")
    assert (said[0]["kind"], said[0]["credits"], said[0]["booked_at"]) == (
        "expiration",
        "-9",
        format_instant(NOON + 1000),
    )


def test_a_grant_that_begins_later_is_posted_when_it_takes_effect() -> None:
    partition = opened("prepaid")
    partition.fold(issue_grant("10", effective_at=format_instant(NOON + 1000)))

    assert outcome(partition.fold(usage("image_analysis"), at=NOON + 999))[1] == "credits_exhausted"
    (entry, _, metered) = partition.fold(usage("image_analysis", event_id="e2"), at=NOON + 2000)

    assert (entry["kind"], entry["booked_at"]) == ("grant", format_instant(NOON + 1000))
    assert metered["balance_after"] == "9"


def test_a_tick_lets_time_pass_for_idle_accounts_a_bounded_number_at_once() -> None:
    partition = Partition(core(boundary_accounts_max=2))
    for number in range(5):
        partition.fold(open_account(account=f"a{number}", command_id=f"open{number}"))

    partition.fold(*[TICK] * 4, at=NOON + 40 * DAY)

    renewed = [each["account_id"] for each in partition.of("statements")]
    assert renewed == ["a0", "a1", "a2", "a3", "a4"]
    assert [each["offset"] for each in partition.of("statements")] == [5, 5, 6, 6, 7]


def test_how_the_log_is_cut_into_batches_does_not_change_what_a_tick_does() -> None:
    events = [open_account(account=f"a{n}", command_id=f"open{n}") for n in range(5)] + [TICK, TICK]
    later = NOON + 40 * DAY
    whole, cut = Partition(core(boundary_accounts_max=2)), Partition(core(boundary_accounts_max=2))
    log = [
        record(event, offset=offset, at=NOON if offset < 5 else later) for offset, event in enumerate(events)
    ]

    whole.apply(whole.run(log))
    for each in log:
        cut.apply(cut.run([each]))

    assert cut.accounts == whole.accounts
    assert cut.of("ledger") == whole.of("ledger")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (open_account(command_id="again"), "account_exists"),
        (open_account("gold", account="new"), "unknown_plan"),
        (issue_grant(account="nobody"), "unknown_account"),
        (issue_grant(expires_at=format_instant(NOON)), "grant_expired"),
        (command("grant", {"grant_id": "there", "kind": "goodwill", "credits": "1"}), "grant_exists"),
        (command("void_grant", {"grant_id": "none"}), "unknown_grant"),
    ],
)
def test_a_command_that_cannot_be_obeyed_is_refused_with_its_reason_again_and_again(
    event: dict[str, Any], reason: str
) -> None:
    partition = opened()
    partition.fold(issue_grant(grant_id="there"))

    (first,) = partition.fold(event)
    (again,) = partition.fold(event)

    assert (first["outcome"], first["reason"]) == ("refused", reason)
    assert (again["outcome"], again["first_outcome"], again["reason"]) == ("duplicate", "refused", reason)


def test_voiding_takes_back_what_is_left_and_what_was_used_stays_used() -> None:
    partition = opened("prepaid")
    partition.fold(issue_grant("10"), usage("image_analysis", images=4))

    (entry, result) = partition.fold(command("void_grant", {"grant_id": "pack"}))

    assert (entry["kind"], entry["credits"], result["balance_after"]) == ("void", "-6", "0")


def test_a_recorded_command_sent_again_gives_nothing() -> None:
    partition = opened("prepaid")
    grant = issue_grant("10")
    partition.fold(grant)

    (again,) = partition.fold(grant, at=NOON + HOUR_MS)
    (late,) = partition.fold(grant, at=NOON + 80 * HOUR_MS)
    (forged,) = partition.fold({**grant, "time": format_instant(NOON + 80 * HOUR_MS)}, at=NOON + 80 * HOUR_MS)
    (renamed,) = partition.fold({**grant, "source": "/other"}, at=NOON + HOUR_MS)

    assert (again["outcome"], again["balance_after"]) == ("duplicate", "10")
    assert (late["reason"], forged["reason"], renamed["reason"]) == (
        "too_late",
        "bad_signature",
        "bad_signature",
    )


def test_entries_are_numbered_without_a_gap_and_each_names_the_hash_before_it() -> None:
    partition = opened("starter")
    partition.fold(*[usage(event_id=f"e{n}") for n in range(5)])

    entries = partition.of("ledger")
    assert [each["entry_seq"] for each in entries] == [1, 2, 3, 4, 5, 6]
    assert [each["previous_hash"] for each in entries][1:] == [each["entry_hash"] for each in entries][:-1]


def test_every_record_says_where_in_the_log_its_cause_stands() -> None:
    partition = opened()
    said = partition.fold(usage(), b"{", usage(event_id="e2"))

    assert [(each["partition"], each["offset"], each["partition_seq"]) for each in said] == [
        (0, 1, 2),
        (0, 1, 2),
        (0, 2, 3),
        (0, 3, 4),
        (0, 3, 4),
    ]


def test_a_schedule_with_a_price_book_that_is_nowhere_stops_the_batch_with_its_name() -> None:
    partition = opened()
    partition.published.clear()
    partition.core = replace(partition.core, bundled={})

    with pytest.raises(
        ValueError,
        match=r"expected the row '__price_book__/2026-01' with SHA-256 [0-9a-f]{64}, got none",
    ):
        Batch(partition.core, partition.view())
