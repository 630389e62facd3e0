"""Kafka can forget a transaction that it promised to commit, and leave its records without a marker (KAFKA-20734).

The broker here is made to: its coordinator of transactions gets back what it had on disk before they began.
"""

import threading
from collections.abc import Iterator
from typing import Any, cast

import orjson
import pytest

from pipeline.bootstrap import load_core
from pipeline.kafka import Producer, TopicPartition, admin, list_offsets, producer, topic_name
from pipeline.metering import Batch
from pipeline.settings import Settings
from pipeline.sink.plan_log import PlanLog, newest_plan
from pipeline.stream.compactor import Compactor
from pipeline.stream.ending import RefusedError
from pipeline.stream.fencing import fence
from pipeline.stream.loading import Loader
from pipeline.stream.memory import PartitionMemory
from pipeline.stream.settling import settle
from pipeline.stream.transaction import Transaction
from schemas.sink_plan import SinkPlan
from schemas.topics import ACCOUNT_EVENTS, COMMAND_RESULTS, DEAD_LETTERS, SINK_PLANS
from tests.builders import Record
from tests.integration.broker import own_broker
from tests.stack import wait_until
from tests.stream_workers import Outcomes, streaming

pytestmark = pytest.mark.integration

NOBODY_SAW, SOMEBODY_SAW, COUNTED, PLANNED = range(4)
"""Partitions: a batch of which nothing is committed; one of which a record is; one that is committed but for a record;
and a plan of the sink."""
PLAN = SinkPlan(partition=PLANNED, mapping=1, inserted=False, ranges=[])


class Promised:
    """A producer whose commit is accepted and never carried out."""

    def __init__(self, real: Producer) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def commit_transaction(self, seconds: float) -> None:
        assert self._real.flush(seconds) == 0


def load(settings: Settings, partition: int) -> PartitionMemory:
    return Loader(settings, load_core(settings), partition, threading.Event(), Compactor()).load()


def meter(settings: Settings, partition: int, owner: Producer) -> None:
    """The one record of the partition's log, which is no event."""
    batch = Batch(load_core(settings), load(settings, partition).view())
    batch.feed([Record(offset=0, timestamp=1, key=b"acct", value=b"not json")])
    Transaction(settings, partition, owner).commit(batch.finish())


def say(settings: Settings, topic: str, partition: int, owner: Producer) -> None:
    """Something of offset 0, in a transaction that is not over."""
    owner.begin_transaction()
    value = orjson.dumps({"partition": partition, "offset": 0})
    owner.produce(topic_name(settings.kafka, topic), value, partition=partition)
    assert owner.flush(10) == 0


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    directory = tmp_path_factory.mktemp("forgotten")
    with own_broker(directory) as broker:
        settings = streaming(broker.settings, directory / "home", partitions=4)
        feed = producer(settings.kafka)
        for partition in (NOBODY_SAW, SOMEBODY_SAW, COUNTED):
            feed.produce(
                topic_name(settings.kafka, ACCOUNT_EVENTS), b"not json", b"acct", partition=partition
            )
        feed.flush(10)
        owners = {partition: fence(settings, partition) for partition in (NOBODY_SAW, SOMEBODY_SAW, COUNTED)}
        plans = PlanLog(settings, PLANNED)
        broker.stop()
        broker.remember_transactions()
        broker.start()
        for partition in (NOBODY_SAW, SOMEBODY_SAW):
            meter(settings, partition, cast("Producer", Promised(owners[partition])))
        other = producer(settings.kafka, transactional_id="other")
        other.init_transactions(10)
        say(settings, COMMAND_RESULTS, SOMEBODY_SAW, other)
        other.commit_transaction(10)
        meter(settings, COUNTED, owners[COUNTED])
        say(settings, DEAD_LETTERS, COUNTED, owners[COUNTED])
        plans._producer = cast("Producer", Promised(plans._producer))
        plans.write(PLAN)
        broker.kill()
        broker.forget_transactions()
        broker.start()
        yield settings


def test_a_batch_of_which_nobody_saw_anything_is_aborted_and_metered_once(forgotten: Settings) -> None:
    owner = fence(forgotten, NOBODY_SAW)
    memory = load(forgotten, NOBODY_SAW)
    assert memory.cursor.next_offset == 0
    settle(forgotten, owner, NOBODY_SAW, memory.cursor, threading.Event())
    meter(forgotten, NOBODY_SAW, owner)
    said = [each for each in Outcomes(forgotten.kafka).settle() if each.partition == NOBODY_SAW]
    assert [(each.topic, each.offset) for each in said] == [(DEAD_LETTERS, 0)]


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        pytest.param(SOMEBODY_SAW, "found a committed record of offset 0 beside", id="part-is-committed"),
        pytest.param(COUNTED, "found a record of offset 0", id="part-hangs"),
    ],
)
def test_a_batch_that_is_half_committed_stops_the_worker(
    forgotten: Settings, partition: int, expected: str
) -> None:
    owner = fence(forgotten, partition)
    cursor = load(forgotten, partition).cursor
    with pytest.raises(RefusedError, match=expected):
        settle(forgotten, owner, partition, cursor, threading.Event())


def test_a_plan_that_may_have_been_carried_out_counts(forgotten: Settings) -> None:
    assert PlanLog(forgotten, PLANNED).newest(begins=0) == PLAN
    place = TopicPartition(topic_name(forgotten.kafka, SINK_PLANS), PLANNED)
    broker = admin(forgotten.kafka)

    def end() -> int:
        (found,) = list_offsets(broker, [place], "latest", timeout_seconds=10).values()
        return found

    wait_until("the plan's markers are written, which a commit does not wait for", lambda: end() > 0, 10)
    assert newest_plan(forgotten, PLANNED, begins=0, ends=end()) == PLAN
