"""The answers depend on the log alone: not on how it is cut, on resends, or on what other accounts do."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import what_if
from pipeline.domain.account import FIRST_HASH
from pipeline.domain.credits import parse_credits
from pipeline.domain.usage import AccountId
from pipeline.evidence import wanted
from pipeline.metering import Batch
from pipeline.state import decode_account, encode_account, row_digest
from pipeline.what_if import Result, compare
from pipeline.what_if_schedule import Live
from tests.builders import Partition, Record
from tests.property.logs import logs, played, ticked
from tests.simulation.test_what_if import unchanged

SPOKEN = (
    "metered-records", "ledger-entries", "command-results", "dead-letters", "statements", "alerts", "topup-orders",
)  # fmt: skip


def newest_balances(partition: Partition) -> dict[str, dict[str, Any]]:
    """Balances are said once a batch: only the newest of each account is the same however the log is cut."""
    return {each["account_id"]: each for each in partition.of("balances")}


@given(logs(), st.lists(st.integers(0, 40), max_size=6), st.binary(min_size=60, max_size=60))
def test_a_log_in_pieces_gives_the_same_bytes_as_in_one(
    log: list[Record], cuts: list[int], back: bytes
) -> None:
    # Append times go back now and then, where the leader of a partition changes; its clock never does.
    log = [
        each._replace(timestamp=each.timestamp - by % 4 * 1000) for each, by in zip(log, back, strict=False)
    ]
    whole, pieces = played(log), Partition()
    for start, end in pairwise([0, *sorted(cuts), len(log)]):
        pieces.apply(pieces.run(log[start:end]))

    assert pieces.accounts == whole.accounts
    assert pieces.published == whole.published
    assert pieces.identities == whole.identities
    assert pieces.cursor == whole.cursor
    assert {topic: pieces.of(topic) for topic in SPOKEN} == {topic: whole.of(topic) for topic in SPOKEN}
    assert newest_balances(pieces) == newest_balances(whole)


@given(logs(), st.integers(1, 20))
def test_a_batch_that_is_fed_in_slices_says_the_same(log: list[Record], size: int) -> None:
    partition = Partition()
    batch = Batch(partition.core, partition.view())
    for start in range(0, len(log), size):
        batch.feed(log[start : start + size])

    assert batch.finish() == partition.run(log)


@given(logs())
def test_every_record_of_the_log_has_exactly_one_outcome(log: list[Record]) -> None:
    partition = played(log)

    answered = [each["offset"] for each in partition.of("command-results")]
    # Of a capture, readmission or correction the record of the usage comes first, then the answer.
    usage = [each["offset"] for each in partition.of("metered-records") if each["offset"] not in answered]
    outcomes = sorted([*answered, *usage, *(each["offset"] for each in partition.of("dead-letters"))])
    assert outcomes == [each.offset for each in log if b"org.apimage.tick" not in (each.value or b"")]


@given(logs(), st.binary(min_size=120, max_size=120))
def test_resends_anywhere_after_the_first_copy_change_nothing(log: list[Record], chosen: bytes) -> None:
    log = ticked(log)
    first = played(log)
    answered = {
        each["offset"] for topic in ("metered-records", "command-results") for each in first.of(topic)
    }
    disturbed: list[Record] = []
    sent: list[Record] = []  # What was answered: a dead letter may be mended and sent again.
    for each, choice in zip(log, chosen, strict=False):
        disturbed.append(each)
        sent += [each] if each.offset in answered else []
        if choice % 2 and sent:
            again = sent[-1 - choice // 2 % min(len(sent), 20)]
            disturbed.append(again._replace(offset=each.offset + 1, timestamp=each.timestamp))

    twice = played(disturbed)
    assert twice.accounts == first.accounts
    added = {each.offset for each in disturbed} - {each.offset for each in log}
    for topic in ("ledger-entries", "statements", "alerts", "topup-orders"):
        assert without_places(twice.of(topic)) == without_places(first.of(topic))
    for said in [*twice.of("metered-records"), *twice.of("command-results")]:
        assert said["offset"] not in added or said["outcome"] == "duplicate"


def without_places(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the number in the partition, which a resend takes too."""
    return [{name: value for name, value in each.items() if name != "partition_seq"} for each in said]


@given(logs())
def test_a_duplicate_is_told_what_the_first_copy_was_told(log: list[Record]) -> None:
    partition = played(log)

    said = {
        each["offset"]: each for each in partition.of("metered-records") if each["outcome"] != "duplicate"
    }
    answers = {each["offset"]: each for each in partition.of("results") if each["outcome"] != "duplicate"}
    for each in partition.of("metered-records"):
        if each["outcome"] == "duplicate" and each["first_offset"] in said:
            first = said[each["first_offset"]]
            assert (each["credits"], each["event_id"]) == ("0", first["event_id"])
            assert each["rated_credits"] == first["rated_credits"]
    for each in partition.of("results"):
        if each["outcome"] == "duplicate":
            first = answers[each["first_offset"]]
            assert each["first_outcome"] == first["outcome"]
            # A version is the same whoever publishes it again.
            assert (
                each["command_id"] == first["command_id"]
                or each["publication"] == first["publication"] is not None
            )


@given(logs(), st.sampled_from("abc"))
def test_what_other_accounts_do_makes_no_difference_to_an_account(log: list[Record], name: str) -> None:
    log = ticked(log)
    alone = [
        each for each in log if each.key in (name.encode(), None) or b".schedule." in (each.value or b"")
    ]

    with_others, by_itself = played(log), played(alone)
    key = name.encode()
    assert by_itself.accounts[key] == with_others.accounts[key]


@given(logs())
def test_the_cursors_digest_is_that_of_the_rows(log: list[Record]) -> None:
    partition = played(log[: len(log) // 2])
    partition.apply(partition.run(log[len(log) // 2 :]))

    assert partition.cursor is not None
    rows = partition.accounts | partition.published
    assert partition.cursor.digest == sum(row_digest(*each) for each in rows.items()) % 2**128


@given(logs())
def test_every_row_reads_back_as_it_was_written(log: list[Record]) -> None:
    partition = played(log)

    for key, row in partition.accounts.items():
        assert encode_account(decode_account(AccountId(key.decode()), row)) == row
        assert orjson.loads(row)["v"] == 1


@given(logs())
def test_the_chain_of_each_account_has_no_gap(log: list[Record]) -> None:
    last: dict[str, tuple[int, str]] = {}
    for entry in played(log).of("ledger"):
        seq, entry_hash = last.get(entry["account_id"], (0, FIRST_HASH))
        assert (entry["entry_seq"], entry["previous_hash"]) == (seq + 1, entry_hash)
        last[entry["account_id"]] = (entry["entry_seq"], entry["entry_hash"])


@given(logs())
def test_records_say_what_entries_say(log: list[Record]) -> None:
    partition = played(log)

    said: dict[int, int] = defaultdict(int)
    entered: dict[int, int] = defaultdict(int)
    for each in partition.of("metered-records"):
        said[each["offset"]] += parse_credits(each["credits"])
    for each in partition.of("ledger"):
        if each["kind"] in {"usage", "reversal"}:
            entered[each["offset"]] -= parse_credits(each["credits"])
    assert {each: cost for each, cost in said.items() if cost} == {
        each: cost for each, cost in entered.items() if cost
    }
    paid = {(each["account_id"], each["entry_seq"]): each["grants"] for each in partition.of("ledger")}
    for each in partition.of("metered-records"):
        if each["outcome"] == "metered" and each["credits"] != "0":
            assert each["receipt"]["grants"] == paid[each["account_id"], each["entry_seq"]]


@given(logs())
def test_the_same_prices_and_plans_in_a_what_if_make_no_difference(log: list[Record]) -> None:
    partition, result = played(log), Result()
    assert partition.cursor is not None
    live = Live(0, partition.cursor, partition.published)
    corrected = {place.event_offset for place in wanted(log, partition.core)}
    with pytest.MonkeyPatch.context() as patch:  # So that what one slice knew must reach the next one.
        patch.setattr(what_if, "SLICE_RECORDS", 7)
        compare(partition.core, live, log, unchanged(live), result, corrected=corrected)

    assert (result.changed, result.unlike_the_table) == ([], [])
    assert result.before == result.after
    assert result.records == len(log)
