"""What chaos rests on: the log holds what was sent, and nothing else."""

from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.admin.topics import ensure_topics
from pipeline.chaos.producers import Producers, digest, log_differences
from pipeline.load import LoadRecord
from pipeline.settings import KafkaSettings, Settings

pytestmark = pytest.mark.integration


def record(number: int) -> LoadRecord:
    return LoadRecord(b"acct" if number % 3 else None, b"%d" % number, (("content-type", b"text/plain"),))


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    settings = Settings(
        home=tmp_path, kafka=kafka.model_copy(update={"topic_prefix": f"c{uuid4().hex[:10]}."})
    )
    ensure_topics(settings)
    return settings


def test_what_is_missing_doubled_or_foreign_in_the_log_is_counted(deployment: Settings) -> None:
    producers = Producers(deployment, seed=1)
    producers.publish([record(number) for number in range(100)])
    producers.finish()
    assert log_differences(deployment, producers.sent) == (0, 0, 0)

    other = Producers(deployment, seed=1)
    other.publish([record(5), record(5), record(1000)])
    other.finish()
    lost = digest(record(2000))

    assert log_differences(deployment, [*producers.sent, lost]) == (1, 2, 1)


def test_ticks_and_what_the_late_lane_puts_back_were_sent_by_no_producer(deployment: Settings) -> None:
    producers = Producers(deployment, seed=1)
    own = b'{"specversion":"1.0","source":"//creditstream/scheduler"}'
    producers.publish([record(1), LoadRecord(None, own, ())])
    producers.finish()

    assert log_differences(deployment, [digest(record(1))]) == (0, 0, 0)
