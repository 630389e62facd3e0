"""What stands between a worker gone wrong and the log: fencing, and the watchdog."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.bootstrap import load_core
from pipeline.kafka import KafkaException
from pipeline.metering import Batch
from pipeline.settings import KafkaSettings, Settings, child_environment
from pipeline.stream.compactor import Compactor
from pipeline.stream.fencing import fence
from pipeline.stream.loading import Loader
from pipeline.stream.reading import LoadAbandonedError
from pipeline.stream.transaction import Transaction
from tests.builders import Record
from tests.stream_workers import Feed, read_table, streaming, write_settings

pytestmark = pytest.mark.integration

WATCHED = """
import sys, time
from pipeline.kafka import topic_name
from pipeline.settings import Settings
from pipeline.stream import watchdog
from schemas.topics import ACCOUNT_EVENTS

class Stuck:
    def positions(self): return {partition: 0 for partition in range(2)}
    def ends(self): return {}
    def is_changing(self): return False

settings = Settings()
watchdog.LOOK_SECONDS = 0.1
watching = watchdog.Watchdog(settings, topic_name(settings.kafka, ACCOUNT_EVENTS), Stuck())
watching._stall_seconds = 1  # Less than the settings allow: nobody waits for the sake of waiting.
watching.start()
for _ in range(300):
    watching._beat_at = time.monotonic()
    time.sleep(0.1)
"""


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    return streaming(kafka, tmp_path)


def test_who_held_a_partition_before_cannot_commit_to_it(deployment: Settings) -> None:
    core = load_core(deployment)
    before = Transaction(deployment, 0, fence(deployment, 0))
    view = Loader(deployment, core, 0, threading.Event(), Compactor()).load().view()
    batch = Batch(core, view)
    batch.feed([Record(offset=0, timestamp=1, key=b"acct", value=b"not json")])
    fence(deployment, 0)
    with pytest.raises(KafkaException, match=r"(?i)fenced"):
        before.commit(batch.finish())
    assert read_table(deployment) == {}


def test_a_load_that_nobody_wants_any_more_ends(deployment: Settings) -> None:
    core, abandoned = load_core(deployment), threading.Event()
    transaction = Transaction(deployment, 0, fence(deployment, 0))
    batch = Batch(core, Loader(deployment, core, 0, abandoned, Compactor()).load().view())
    batch.feed([Record(offset=0, timestamp=1, key=b"acct", value=b"not json")])
    transaction.commit(batch.finish())
    fence(deployment, 0)  # As always before a load: it waits until the last transaction is wholly written.
    abandoned.set()
    with pytest.raises(LoadAbandonedError):
        Loader(deployment, core, 0, abandoned, Compactor()).load()


def test_a_worker_that_lives_but_does_not_move_is_ended(deployment: Settings) -> None:
    feed = Feed(deployment.kafka)
    feed.send_bytes(b"waiting")
    feed.flush()
    write_settings(deployment)
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED],
        env=child_environment(deployment),
        capture_output=True,
        timeout=60,  # It ends by itself after 30, if the watchdog does not end it.
        check=False,
    )
    assert ended.returncode == 70
    assert b"has stood at offset 0" in ended.stderr
