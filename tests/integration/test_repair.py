"""Made anew, backed up, brought back, swept: real Kafka and ClickHouse, compared by reconcile and byte for byte."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest
from confluent_kafka import TopicPartition

from pipeline import kafka as clients
from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.bootstrap import load_core
from pipeline.clickhouse import ClickHouseError, insert_block, open_client
from pipeline.evidence import wanted
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate
from pipeline.load.record import command, instant
from pipeline.metering import Batch
from pipeline.reconcile import reconcile
from pipeline.reconcile.progress import progress_of
from pipeline.reconcile.topics import Log
from pipeline.repair import sweep as sweeping
from pipeline.repair.backup import BackupError, back_up, restore_clickhouse
from pipeline.repair.clickhouse import LossError, rebuild
from pipeline.repair.snapshot import SnapshotError, read_snapshot, snapshot_file
from pipeline.repair.table import TableRefusedError, rebuild_table
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from pipeline.sink import partition as sink_partition
from pipeline.stream.compactor import Compactor
from pipeline.stream.fencing import fence
from pipeline.stream.loading import Loader
from pipeline.stream.past import read_past
from pipeline.stream.transaction import Transaction
from schemas import topics
from tests.conftest import COMMAND_KEY_ID, COMMAND_SECRET, own_settings
from tests.integration import small_pipeline
from tests.integration.sinking import serving
from tests.stack import wait_until

pytestmark = pytest.mark.integration
KEY = CommandKey(key_id=COMMAND_KEY_ID, secret=bytes.fromhex(COMMAND_SECRET))


def work(settings: Settings, *, remembers: bool = True) -> None:
    """As a worker: what is in the log and not answered, in one batch. It may have forgotten all identities."""
    core = load_core(settings)
    transaction = Transaction(settings, 0, fence(settings, 0))
    memory = Loader(settings, core, 0, threading.Event(), Compactor()).load()
    with closing(Log(settings.kafka)) as log:
        messages = log.messages(topics.ACCOUNT_EVENTS, 0, start=memory.cursor.next_offset)
        records = [clients.logged(message) for message in messages]
    view = memory.view() if remembers else replace(memory.view(), identities={})
    batch = Batch(core, view)
    named = wanted(records, core)
    batch.feed(records, read_past(settings, 0, named) if named else {})
    transaction.commit(batch.finish())


def store(settings: Settings) -> None:
    with serving(settings) as ended:
        wait_until("all is stored", lambda: is_stored(settings) or bool(ended), 60)
    assert not ended


def is_stored(settings: Settings) -> bool:
    with closing(Log(settings.kafka)) as log:
        progress = progress_of(log, settings, 0)
    return progress.stored_before == progress.read_to and not progress.sink_lag


def plans_end(settings: Settings) -> int:
    with closing(Log(settings.kafka)) as log:
        return log.bounds(topics.SINK_PLANS, 0)[1]


@dataclass
class Lived:
    settings: Settings
    backup: Path
    """Made in the middle of its life."""
    changelog: dict[bytes, bytes]
    """Newest rows, the cursor among them, at the end."""


@pytest.fixture(scope="module")
def lived(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lived]:
    home = tmp_path_factory.mktemp("lived")
    with own_settings(kafka, clickhouse, home) as own:
        settings = small_settings(own)
        ensure_topics(settings)
        migrate(settings)
        plan = LoadPlan(
            seed=7, events=200, accounts=8, base_ms=int(time.time() * 1000), malformed_share=0.05,
            duplicate_share=0.1, dry_share=0.2, hold_share=0.1, change_share=0.05,
        )  # fmt: skip
        records = list(generate(plan, KEY))
        small_pipeline.publish(settings, [*records[:120], opened(), used("e1", 20), used("e2", 10)])
        work(settings)
        store(settings)
        back_up(settings, home / "backup")
        # Behind the backup: resends of what was before it, and a charge of before it that is taken back.
        small_pipeline.publish(
            settings, [used("e1", 20), *records[:30], *records[120:], reversed_of(settings, "e2")]
        )
        work(settings)
        store(settings)
        yield Lived(settings, home / "backup", changelog_rows(settings))


def small_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})


def opened(account: str = "spender") -> LoadRecord:
    at_ms = int(time.time() * 1000)
    return command(KEY, "open", account, id=f"open-{account}", time_ms=at_ms, data={"plan": "starter"})


def used(event_id: str, images: int, account: str = "spender", *, late_ms: int = 0) -> LoadRecord:
    event = {
        "specversion": "1.0", "id": event_id, "source": "/tests", "subject": account,
        "type": "org.apimage.usage.image_analysis.v1", "time": instant(int(time.time() * 1000) - late_ms),
        "data": {"images": images},
    }  # fmt: skip
    return LoadRecord(account.encode(), orjson.dumps(event), ())


def reversed_of(settings: Settings, event_id: str) -> LoadRecord:
    with closing(Log(settings.kafka)) as log:
        (place,) = [
            {"partition": 0, "offset": message.offset(), "event_offset": record["offset"]}
            for message in log.messages(topics.METERED_RECORDS, 0)
            if (record := orjson.loads(message.value() or b""))["event_id"] == event_id
        ]
    at_ms = int(time.time() * 1000)
    return command(KEY, "reverse", "spender", id="taken-back", time_ms=at_ms, data={"record": place})


def changelog_rows(settings: Settings) -> dict[bytes, bytes]:
    with closing(Log(settings.kafka)) as log:
        messages = log.messages(topics.changelog(settings.worker.app_id), 0)
        rows = {message.key() or b"": message.value() for message in messages}
    return {key: row for key, row in rows.items() if row is not None}


def lose_changelog(settings: Settings) -> None:
    broker = clients.admin(settings.kafka)
    name = clients.topic_name(settings.kafka, topics.changelog(settings.worker.app_id))
    broker.delete_topics([name])[name].result(30)
    wait_until("the topic is gone", lambda: name not in broker.list_topics(timeout=10).topics)
    ensure_topics(settings)


@pytest.mark.parametrize("from_backup", [True, False], ids=["from the backup", "from the whole log"])
def test_a_lost_table_is_made_anew_byte_for_byte(lived: Lived, *, from_backup: bool) -> None:
    lose_changelog(lived.settings)
    made = rebuild_table(lived.settings, 0, lived.backup if from_backup else None)
    assert changelog_rows(lived.settings) == lived.changelog
    assert made.digest == orjson.loads(lived.changelog[b"__cursor__"])["digest"]
    work(lived.settings)  # Loads it, and has nothing left to answer.
    report = reconcile(lived.settings, sink_wait_seconds=10)
    assert report.differences == ()


def test_a_snapshot_of_which_a_byte_is_other_is_refused(lived: Lived, tmp_path: Path) -> None:
    file = snapshot_file(tmp_path, 0)
    whole = snapshot_file(lived.backup, 0).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SnapshotError, match="expected a whole snapshot"):
        read_snapshot(file)
    with pytest.raises(TableRefusedError):
        rebuild_table(lived.settings, 0, tmp_path)


def test_clickhouse_is_made_anew_under_a_running_sink_and_takes_no_block_of_the_past(
    lived: Lived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_partition, "RENEW_SECONDS", 0.2)
    with serving(lived.settings) as ended:
        begun = plans_end(lived.settings)
        wait_until("it has taken over and says where it is", lambda: plans_end(lived.settings) > begun)
        with closing(open_client(lived.settings.clickhouse)) as client:
            row = client.raw_query("SELECT * FROM metered_records LIMIT 1", fmt="JSONEachRow")
            assert rebuild(lived.settings, accept_loss=False) == []
            with pytest.raises(ClickHouseError, match="VIOLATED_CONSTRAINT"):
                insert_block(client, "metered_records", row, token="of a sink that was stopped")
        wait_until("the fenced sink has ended", lambda: bool(ended), 30)
    store(lived.settings)
    assert reconcile(lived.settings, sink_wait_seconds=10).differences == ()


def test_a_backup_brings_clickhouse_back_and_the_sink_what_came_since(lived: Lived) -> None:
    with closing(open_client(lived.settings.clickhouse)) as client:
        client.command("DROP TABLE ledger_entries SYNC")
        client.command("TRUNCATE TABLE metered_records")
    manifest = restore_clickhouse(lived.settings, lived.backup)
    with closing(open_client(lived.settings.clickhouse)) as client:
        ((restored, rolled),) = client.query(
            "SELECT (SELECT count() FROM metered_records), (SELECT sum(records) FROM usage_daily)"
        ).result_rows
    assert restored == rolled == manifest["tables"]["metered_records"]["rows"] > 20
    store(lived.settings)
    assert reconcile(lived.settings, sink_wait_seconds=10).differences == ()


def test_a_backup_that_is_altered_or_of_other_topics_is_refused(
    lived: Lived, settings: Settings, tmp_path: Path
) -> None:
    other = small_settings(settings)
    ensure_topics(other)
    with pytest.raises(BackupError, match="expected the topics of the backup"):
        restore_clickhouse(other, lived.backup)
    for file in lived.backup.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "metered_records.native.gz").open("ab") as altered:
        altered.write(b"x")
    with pytest.raises(BackupError, match=r"expected .*metered_records.native.gz with SHA-256"):
        restore_clickhouse(lived.settings, tmp_path)
    with pytest.raises(BackupError, match="expected an empty directory"):
        back_up(lived.settings, tmp_path)


def test_what_is_charged_twice_under_one_id_is_taken_back_once(settings: Settings) -> None:
    settings = small_settings(settings)
    ensure_topics(settings)
    migrate(settings)
    small_pipeline.publish(settings, [opened(), used("e1", 20), used("e2", 5), used("e3", 1)])
    work(settings)
    # The window has passed: nobody remembers, and the contract is broken with a new time; once with other content.
    small_pipeline.publish(settings, [used("e1", 20), used("e2", 6)])
    work(settings, remembers=False)
    store(settings)

    def sweep(*, dry_run: bool = False) -> list[sweeping.Charged]:
        return sweeping.sweep(settings, now_ms=int(time.time() * 1000), conflicts=False, dry_run=dry_run)

    found = sweep(dry_run=True)
    assert [(each.event_id, str(each.left), each.same_content) for each in found] == [
        ("e1", "20", True),
        ("e2", "6", False),
    ]
    sweep()
    sweep()  # Killed in between, it would begin anew: the same command again.
    work(settings)
    sweep()  # ClickHouse does not know yet.
    work(settings)
    store(settings)
    assert [each.event_id for each in sweep()] == ["e2"]
    with closing(open_client(settings.clickhouse)) as client:
        rows = client.query(
            "SELECT kind, cause_id, toString(credits) FROM ledger_entries_v1 WHERE kind = 'reversal'"
        ).result_rows
    assert rows == [("reversal", f"sweep:0:{found[0].offset}", "20")]
    assert reconcile(settings, sink_wait_seconds=10).differences == ()


def test_rows_that_kafka_does_not_hold_any_more_are_not_thrown_away_unasked(lived: Lived) -> None:
    name = clients.topic_name(lived.settings.kafka, topics.LEDGER_ENTRIES)
    place = TopicPartition(name, 0, 40)
    broker = clients.admin(lived.settings.kafka)  # The answer comes as long as it lives.
    broker.delete_records([place])[place].result(30)
    with pytest.raises(LossError, match=r"ledger_entries, partition 0: \d+ rows of input offsets before \d+"):
        rebuild(lived.settings, accept_loss=False)
    (lost,) = rebuild(lived.settings, accept_loss=True)
    store(lived.settings)
    with closing(open_client(lived.settings.clickhouse)) as client:
        ((oldest,),) = client.query("SELECT min(offset) FROM ledger_entries").result_rows
    assert (lost.table, lost.before) == ("ledger_entries", oldest)
