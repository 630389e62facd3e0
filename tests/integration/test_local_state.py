"""What a worker keeps on disk for its next start, on a real broker: used where everything fits, else thrown away."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from signal import SIGKILL

import pytest

from pipeline.bootstrap import load_core
from pipeline.domain.grants import NEVER
from pipeline.kafka import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]  (confluent's stubs do not say that it is exported)
    KafkaError,
    KafkaException,
    TopicPartition,
    admin,
    producer,
    topic_id,
    topic_name,
)
from pipeline.metering import Batch
from pipeline.settings import KafkaSettings, Settings, WorkerSettings
from pipeline.state import CURSOR_KEY, encode_cursor
from pipeline.stream.compaction import compact
from pipeline.stream.compactor import Compactor
from pipeline.stream.fencing import fence
from pipeline.stream.loading import Loader
from pipeline.stream.row_log import Entry, RowLog
from pipeline.stream.transaction import Transaction
from pipeline.stream.whole_rows import Origin
from schemas.topics import ACCOUNT_EVENTS, changelog
from tests.builders import open_account, record, usage
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, assert_each_offset_once, streaming, wait_until_held, workers

pytestmark = pytest.mark.integration

SESSION_MS = 80_000
"""Far longer than a start takes, on a machine that is busy too."""
ACCOUNTS = 6


def deployed(kafka: KafkaSettings, home: Path) -> Settings:
    return streaming(kafka, home, worker=WorkerSettings(session_timeout_ms=SESSION_MS))


class Holder:
    """Holds partition 0 as a worker does, without the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.core = load_core(settings)
        self.log = changelog(settings.worker.app_id)
        topic = topic_name(settings.kafka, self.log)
        self.directory = settings.home / "accounts" / topic / "0"
        self.origin = Origin(
            topic=topic,
            topic_id=topic_id(admin(settings.kafka), topic, timeout_seconds=10),
            partition=0,
            partitions=settings.kafka.partitions,
        )
        self.batches = 0
        self.take_over()
        self.run(*[open_account("pro", account=f"acct-{each}") for each in range(ACCOUNTS)])

    def take_over(self) -> None:
        """Fence and load."""
        self.transaction = Transaction(self.settings, 0, fence(self.settings, 0))
        self.memory = Loader(self.settings, self.core, 0, threading.Event(), Compactor()).load()

    def run(self, *events: dict[str, object]) -> None:
        """Meter one batch, and keep its rows."""
        self.write(ACCOUNT_EVENTS, [(b"acct", b"stands for the event")] * len(events))
        start = self.memory.cursor.next_offset
        batch = Batch(self.core, self.memory.view())
        batch.feed([record(event, offset=start + index) for index, event in enumerate(events)])
        folded = batch.finish()
        self.memory.apply(folded, self.transaction.commit(folded))
        self.memory.local.close()

    def spend(self) -> None:
        self.batches += 1
        self.run(*[usage(account=f"acct-{each}", event_id=f"e{self.batches}") for each in range(3)])

    def spread_out(self) -> None:
        """One file of all rows, and a log of what came after it."""
        assert compact(self.directory, self.origin, self.end)
        self.spend()

    @property
    def end(self) -> int:
        """Up to where the files go: the place of the last transaction's marker."""
        return self.memory.local._written  # pyright: ignore[reportPrivateUsage]

    def rows(self) -> dict[bytes, bytes]:
        """Everything that stands in the table."""
        cursor = {CURSOR_KEY: encode_cursor(self.memory.cursor)}
        return dict(self.memory.accounts) | self.memory.published | cursor

    def write(self, topic: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
        writer = producer(self.settings.kafka)
        for key, value in rows:
            writer.produce(topic_name(self.settings.kafka, topic), value, key, 0)
        assert writer.flush(30) == 0

    def append(self, entry: Entry) -> None:
        log = RowLog(self.directory / f"{entry.since:020d}-1.log", self.origin)
        log.append(entry)
        log.close()

    def only(self, suffix: str) -> Path:
        (path,) = self.directory.glob(f"*{suffix}")
        return path


@pytest.fixture(scope="module")
def holder(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Holder:
    return Holder(deployed(kafka, tmp_path_factory.mktemp("holder")))


def nothing(holder: Holder) -> None:
    """All is well."""


def fall_behind(holder: Holder) -> None:
    holder.only(".log").unlink()


def damage_the_log(holder: Holder) -> None:
    flip(holder.only(".log"))


def damage_the_file(holder: Holder) -> None:
    flip(holder.only(".whole"))


def run_ahead(holder: Holder) -> None:
    holder.append(Entry(holder.end, 10**6, {}))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def replace_by_another_partition(holder: Holder) -> None:
    for path in holder.directory.iterdir():
        content = path.read_bytes()
        assert b'"partition":0' in content
        path.write_bytes(content.replace(b'"partition":0', b'"partition":1'))


def forge(holder: Holder) -> None:
    """An entry of the right form with a row that nobody has written."""
    row = holder.rows()[b"acct-0"]
    holder.append(Entry(holder.end, holder.end + 1, {b"acct-0": row.replace(b'"posted":', b'"posted":1')}))


def shorten_the_changelog(holder: Holder) -> None:
    """What compaction and deletion do in weeks: the newest rows stand anew at the end, what was before is gone."""
    rows = holder.rows()
    cursor = rows.pop(CURSOR_KEY)
    holder.write(holder.log, [*rows.items(), (CURSOR_KEY, cursor)])
    client, kept = admin(holder.settings.kafka), TopicPartition(holder.origin.topic, 0, holder.end + 1)
    both = ConfigResource(  # Kafka deletes by request only where it may delete at all.
        ConfigResource.Type.TOPIC, kept.topic, set_config={"cleanup.policy": "compact,delete"}
    )
    with pytest.deprecated_call():  # In favour of one that asks for twice the words.
        (altered,) = client.alter_configs([both]).values()
    altered.result(30)
    wait_until("the broker deletes by request", lambda: is_cut_off(client, kept))


def is_cut_off(client: AdminClient, kept: TopicPartition) -> bool:
    """Whether all before it is deleted. A changed policy reaches the partition some time after its answer."""
    try:
        client.delete_records([kept])[kept].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.POLICY_VIOLATION:
            raise
        return False
    return True


@pytest.mark.parametrize(
    ("harm", "because", "is_used"),
    [
        pytest.param(nothing, "", True, id="none"),
        pytest.param(fall_behind, "", True, id="behind"),
        pytest.param(damage_the_log, "it is damaged", True, id="damaged log"),
        pytest.param(damage_the_file, "not what was written", False, id="damaged"),
        pytest.param(replace_by_another_partition, "thrown away", False, id="of another partition"),
        pytest.param(run_ahead, "it goes up to offset 1000000 of a log", False, id="ahead of the changelog"),
        pytest.param(forge, "expected account rows with digest", False, id="forged"),
        pytest.param(shorten_the_changelog, "it goes up to offset", False, id="before the changelog"),
    ],
)
def test_rows_on_disk_are_used_or_thrown_away(
    holder: Holder,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Holder], None],
    because: str,
    is_used: bool,
) -> None:
    holder.spread_out()
    expected, due = holder.rows(), holder.memory.boundaries.due(NEVER - 1, 100)
    harm(holder)
    with caplog.at_level("INFO", "pipeline.stream"):
        holder.take_over()
    assert holder.rows() == expected
    assert holder.memory.boundaries.due(NEVER - 1, 100) == due
    assert because in caplog.text
    assert (holder.memory.accounts.changed.keys() != holder.memory.accounts.keys()) == is_used
    holder.spend()  # And it goes on from there.


def test_a_worker_that_was_killed_is_back_before_its_session_would_end(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    deployment = deployed(kafka, tmp_path)
    feed, outcomes = Feed(deployment.kafka), Outcomes(deployment.kafka)
    feed.send(*[open_account("pro", account=f"acct-{each}", at=now_ms()) for each in range(8)])
    feed.flush()
    with workers(deployment, "killed") as (killed,):
        outcomes.wait_for(feed.sent)
        wait_until("rows are on disk", lambda: any(tmp_path.glob("accounts/*/*/*.log")))
        again = usage(account="acct-0", event_id="again", at=now_ms())
        feed.send(again)
        feed.flush()
        outcomes.wait_for(feed.sent)
        killed.send(SIGKILL)
    feed.send(again, *[usage(account=f"acct-{each}", event_id="after", at=now_ms()) for each in range(8)])
    feed.flush()
    with workers(deployment, "back") as (back,):
        wait_until_held(deployment, back, seconds_max=SESSION_MS / 1000 - 20)
        said = outcomes.wait_for(feed.sent)
        assert "with 8 accounts" in back.log
        # Without files it would be three records for each account, and price books, plans and cursors.
        read = [int(each) for each in re.findall(r"(\d+) records of the changelog", back.log)]
        assert sum(read) <= 2 * deployment.kafka.partitions, back.log
    assert_each_offset_once(outcomes.settle(), feed.sent)
    assert [each.body["outcome"] for each in said if each.body.get("event_id") == "again"] == [
        "metered",
        "duplicate",
    ]


def test_a_directory_that_takes_no_files_costs_a_worker_nothing_but_time(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    deployment = deployed(kafka, tmp_path)
    for name in ("accounts", "identities", "workers"):
        (tmp_path / name).write_text("no directory can be made here")
    feed, outcomes = Feed(deployment.kafka), Outcomes(deployment.kafka)
    feed.send(*[open_account("pro", account=f"acct-{each}", at=now_ms()) for each in range(8)])
    feed.send(*[usage(account=f"acct-{each % 8}", event_id=f"e{each}", at=now_ms()) for each in range(20)])
    feed.flush()
    with workers(deployment, "a") as (worker,):
        outcomes.wait_for(feed.sent)
        wait_until("it is said", lambda: "rows are not kept on disk for now" in worker.log)
        assert "no seat in the group" in worker.log
    assert_each_offset_once(outcomes.settle(), feed.sent)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
