"""What the worker counts is what became of the records: told from their bytes, and by an honest parse."""

from collections import Counter

from pipeline.domain.instants import parse_instant
from pipeline.stream.measure import outcomes_of
from tests.builders import Partition, Record, open_account, record, usage
from tests.unit.test_demo_month import NOWS, records


def test_outcomes_of_a_batch_are_those_of_its_records() -> None:
    partition, at = Partition(), parse_instant(NOWS[0])
    planned = enumerate(records(NOWS[0]))
    folded = partition.run(Record(offset, at - each.ago_ms, each.key, each.value) for offset, each in planned)
    partition.apply(folded)
    expected = Counter((each["outcome"], each["reason"]) for each in partition.of("metered-records"))
    expected.update(
        (f"command_{each['outcome']}", each["reason"]) for each in partition.of("command-results")
    )
    expected.update(("dead_letter", each["reason"]) for each in partition.of("dead-letters"))
    assert outcomes_of(folded) == expected
    assert len(expected) >= 9


def test_what_a_producer_writes_is_not_counted_as_an_outcome() -> None:
    partition = Partition()
    partition.fold(open_account())
    lie = '"outcome":"denied","reason":"plan_paused"'
    event = usage(event_id=lie, note={"outcome": "denied", "reason": "plan_paused"})
    folded = partition.run([record(event, offset=1)])
    assert outcomes_of(folded) == {("metered", ""): 1}
