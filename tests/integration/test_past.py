"""The shell's look into the past: the record that a command names, wherever the topic has it."""

from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from pipeline.admin.topics import ensure_topics
from pipeline.domain.commands import RecordPlace
from pipeline.kafka import Producer, producer, topic_name
from pipeline.settings import KafkaSettings, Settings
from pipeline.stream import past
from pipeline.stream.past import read_past
from schemas.topics import METERED_RECORDS

pytestmark = pytest.mark.integration

EVENTS = (3, 4, 9, 10, 11, 40)
"""Places in the log of the usage whose records are there."""


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    prefix = f"p{uuid4().hex[:10]}."
    settings = Settings(home=tmp_path, kafka=kafka.model_copy(update={"topic_prefix": prefix}))
    ensure_topics(settings)
    return settings


def write(settings: Settings) -> None:
    """A transaction for each record, one that was aborted in their midst, and two at the end."""
    writer = producer(settings.kafka, transactional_id="past")
    writer.init_transactions(30)
    for event_offset in EVENTS:
        transact(settings, writer, event_offset)
        writer.commit_transaction(30)
        if event_offset in {9, 40}:
            transact(settings, writer, event_offset)
            writer.abort_transaction(30)
    transact(settings, writer, 99)
    writer.abort_transaction(30)


def transact(settings: Settings, writer: Producer, event_offset: int) -> None:
    writer.begin_transaction()
    value = orjson.dumps({"offset": event_offset, "partition": 0})
    writer.produce(topic_name(settings.kafka, METERED_RECORDS), value, partition=0)
    writer.flush(30)


def found(settings: Settings, *places: tuple[int, int]) -> dict[int, int]:
    """Where was looked → what the record that was found says of itself."""
    read = read_past(settings, 0, [RecordPlace(0, *place) for place in places])
    return {event_offset: orjson.loads(value)["offset"] for event_offset, value in read.items()}


def test_a_record_is_found_by_its_usage_wherever_a_command_says_that_it_stands(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "READ_SECONDS_MAX", 5)
    assert found(deployment, (0, 3)) == {}  # Nothing was written yet.
    write(deployment)

    # Records and markers stand at every offset up to 17, aborted ones at 6, 14 and 16; 100 is beyond the end.
    for wrong in (*range(18), 100):
        assert found(deployment, *((wrong, each) for each in EVENTS)) == {each: each for each in EVENTS}
        assert found(deployment, (wrong, 5), (wrong, 2), (wrong, 99)) == {}


def test_a_command_that_names_the_same_place_for_other_usage_hides_nothing(deployment: Settings) -> None:
    write(deployment)
    assert found(deployment, (0, 3), (0, 77), (2, 4), (2, 78)) == {3: 3, 4: 4}
