"""A short seeded part of the fuzz, and that it has teeth: `python -m tests.fuzz` runs a million."""

from collections.abc import Callable

import pytest

from pipeline.metering import Folded
from tests.builders import Partition, Record
from tests.fuzz import Found, play
from tests.fuzz.inputs import SPOILERS
from tests.fuzz.judge import WORLD_RECORDS

WORLDS = 3
SMALL_RECORDS = 150


def test_every_fuzzed_record_ends_in_exactly_one_outcome_and_credits_are_conserved() -> None:
    found = Found()
    for number in range(WORLDS):
        play(f"ci-{number}", WORLD_RECORDS, found)

    assert found.outcomes.total() == WORLDS * WORLD_RECORDS
    assert set(SPOILERS) <= found.spoiled.keys()
    assert {"metered", "denied", "duplicate", "accepted", "refused", "tick"} <= found.outcomes.keys()
    assert found.validated > WORLDS * WORLD_RECORDS / 2


@pytest.mark.parametrize("topic", ["metered-records", "dead-letters", "command-results", "ledger-entries"])
def test_a_record_that_is_dropped_or_said_twice_is_noticed(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copies in (0, 2):
        with monkeypatch.context() as broken:
            broken.setattr(Partition, "run", _saying(topic, copies))
            with pytest.raises(AssertionError):
                play("ci-0", SMALL_RECORDS, Found(), validated_share=0)


def test_an_exception_is_traced_to_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.metering.Batch.feed", _failing)
    with pytest.raises(AssertionError, match=r"world ci-0: .*deep.* by Record\(offset=0"):
        play("ci-0", 10, Found())


def _saying(topic: str, copies: int) -> Callable[[Partition, list[Record]], Folded]:
    run = Partition.run

    def saying(self: Partition, records: list[Record]) -> Folded:
        folded = run(self, records)
        first = next((each for each in folded.records if topic in each.topic), None)
        if first is not None:
            place = folded.records.index(first)
            folded.records[place : place + 1] = [first] * copies
        return folded

    return saying


def _failing(*_: object) -> None:
    raise RecursionError("deep")
