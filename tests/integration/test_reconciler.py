"""The reconciler that always runs: equal up to an offset, all that is forged named, a lag no difference."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import orjson
import pytest

from pipeline import kafka as clients
from pipeline.clickhouse import Client, open_client
from pipeline.load import CommandKey, LoadPlan, generate
from pipeline.reconcile import Kind
from pipeline.reconcile.following import Follower
from pipeline.reconcile.marks import newest_marks, write_marks
from pipeline.reconcile.progress import progress_of
from pipeline.reconcile.topics import Log
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from schemas import topics
from schemas.reconcile_mark import ReconcileMark
from tests.conftest import COMMAND_KEY_ID, COMMAND_SECRET, own_settings
from tests.integration import small_pipeline
from tests.stack import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(settings: Settings) -> Settings:
    return lived(settings)


@pytest.fixture(scope="module")
def unmarked(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """For tests that leave no mark, and nothing else in Kafka."""
    with own_settings(kafka, clickhouse, tmp_path_factory.mktemp("unmarked")) as settings:
        yield lived(settings)


def lived(settings: Settings) -> Settings:
    """One partition, all the way to ClickHouse, compared in many short stretches that cut its batches."""
    settings = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"partitions": 1}),
            "reconciler": settings.reconciler.model_copy(
                update={"records_max": 100, "review_percent_max": 100}
            ),
        }
    )
    plan = LoadPlan(
        seed=5, events=300, accounts=10, base_ms=int(time.time() * 1000), malformed_share=0.05,
        duplicate_share=0.05, conflict_share=0.02, dry_share=0.2, hold_share=0.1, change_share=0.05,
    )  # fmt: skip
    key = CommandKey(key_id=COMMAND_KEY_ID, secret=bytes.fromhex(COMMAND_SECRET))
    small_pipeline.run(settings, generate(plan, key), batch_rows=70)
    return settings


@pytest.fixture
def client(deployment: Settings) -> Iterator[Client]:
    with closing(open_client(deployment.clickhouse)) as client:
        yield client


@pytest.fixture
def tables(unmarked: Settings) -> Iterator[Client]:
    """Of `unmarked`, to be altered: with the test they are what they were."""
    with (
        closing(open_client(unmarked.clickhouse)) as client,
        small_pipeline.KeptTables(unmarked.clickhouse) as kept,
    ):
        yield client
        kept.bring_back()


@contextmanager
def following(settings: Settings, client: Client) -> Iterator[Follower]:
    """Goes on from the mark on the topic, and leaves one there."""
    with closing(Log(settings.kafka)) as log:
        marks = newest_marks(log, settings)
        follower = Follower(settings, log, Warehouse(client), marks, wait=lambda _: None)
        yield follower
        write_marks(clients.producer(settings.kafka), settings, follower.marks())


def turned(follower: Follower) -> ReconcileMark:
    """Turns until there is nothing new, and once around behind it."""
    while follower.turn():
        pass
    (followed,) = follower.partitions
    rounds = followed.rounds
    while followed.rounds < rounds + 2 and not followed.differences:
        follower.turn()
    (mark,) = follower.marks()
    return mark


def some_charge(client: Client) -> tuple[int, str]:
    rows = client.query(
        "SELECT offset, account_id FROM metered_records WHERE outcome = 'metered' ORDER BY offset LIMIT 1 OFFSET 40"
    ).result_rows
    return int(rows[0][0]), str(rows[0][1])


FORGED = {
    Kind.ROW_DOUBLED: "INSERT INTO metered_records SELECT * FROM metered_records WHERE offset = {offset}",
    Kind.ROW_ALTERED: "ALTER TABLE metered_records UPDATE credits = credits + 0.000001::Decimal(18, 6) "
    "WHERE offset = {offset} SETTINGS mutations_sync = 2",
    Kind.ROW_MISSING: "ALTER TABLE ledger_entries DELETE WHERE offset = {offset} SETTINGS mutations_sync = 2",
    Kind.ROW_UNKNOWN: "INSERT INTO metered_records SELECT * REPLACE (offset + 1000000 AS offset) "
    "FROM (SELECT * FROM metered_records WHERE offset = {offset})",
}


def test_all_is_equal_in_stretches_and_whatever_is_forged_behind_the_mark_is_named_until_it_is_mended(
    deployment: Settings, client: Client
) -> None:
    with following(deployment, client) as follower:
        turns = 1
        while follower.turn():
            turns += 1
        assert turns > 3, "expected several stretches"
        (mark,) = follower.marks()
    end = progress_end(deployment)
    assert (mark.compared_up_to, mark.equal_up_to, mark.differences) == (end, end, [])

    offset, account = some_charge(client)
    client.command("SYSTEM STOP MERGES metered_records")
    client.command(FORGED[Kind.ROW_DOUBLED].format(offset=offset))
    with following(deployment, client) as follower:
        mark = turned(follower)
        assert [(each.kind, each.where, each.offset, each.account_id) for each in mark.differences] == [
            (Kind.ROW_DOUBLED, "metered_records", offset, account)
        ]
        assert (mark.equal_up_to, mark.compared_up_to) == (offset, end)
        assert turned(follower).differences_total == 1
    with following(deployment, client) as follower:  # Another process: still named, before it has looked.
        (mark,) = follower.marks()
        assert mark.differences_total == 1
        client.command("SYSTEM START MERGES metered_records")
        client.command("OPTIMIZE TABLE metered_records FINAL")
        wait_until("it is found equal", lambda: turned_once(follower).differences == [])


@pytest.mark.parametrize("kind", [Kind.ROW_ALTERED, Kind.ROW_MISSING, Kind.ROW_UNKNOWN])
def test_what_was_forged_before_it_was_compared_is_named(
    unmarked: Settings, tables: Client, kind: Kind
) -> None:
    offset, account = some_charge(tables)
    tables.command(FORGED[kind].format(offset=offset))
    with closing(Log(unmarked.kafka)) as log:
        follower = Follower(unmarked, log, Warehouse(tables), [], wait=lambda _: None)
        while follower.turn():
            pass
        (mark,) = follower.marks()
    expected = offset + (1_000_000 if kind is Kind.ROW_UNKNOWN else 0)
    assert (kind, expected, account) in {
        (each.kind, each.offset, each.account_id) for each in mark.differences
    }
    assert mark.equal_up_to == min(expected, mark.compared_up_to)


def test_balances_and_records_forged_in_kafka_are_named(deployment: Settings, client: Client) -> None:
    client.command(
        "ALTER TABLE account_balances UPDATE posted = posted + toDecimal64('0.000001', 6) WHERE "
        "account_id = 'acct-000003' SETTINGS mutations_sync = 2"
    )
    producer = clients.producer(deployment.kafka)
    with closing(Log(deployment.kafka)) as log:
        *_, last = log.messages(topics.METERED_RECORDS, 0)
        *_, balance = log.messages(topics.ACCOUNT_BALANCES, 0)
    topic = clients.topic_name(deployment.kafka, topics.METERED_RECORDS)
    producer.produce(topic, last.value(), last.key(), partition=0)
    said = orjson.loads(balance.value() or b"")
    topic = clients.topic_name(deployment.kafka, topics.ACCOUNT_BALANCES)
    producer.produce(topic, orjson.dumps({**said, "posted": "0.5"}), balance.key(), partition=0)
    producer.flush(10)
    small_pipeline.settle(deployment, 0)
    with following(deployment, client) as follower:
        named = {(each.kind, each.where) for each in turned(follower).differences}
    assert named >= {
        (Kind.BALANCE_DIFFERS, "account_balances"),
        (Kind.BALANCE_DIFFERS, topics.ACCOUNT_BALANCES),
        (Kind.OUTCOME_DOUBLED, topics.METERED_RECORDS),
        (Kind.ROW_MISSING, "metered_records"),
    }


def test_a_lag_is_no_difference_and_the_mark_goes_back_with_a_sink_that_begins_anew(
    deployment: Settings, client: Client
) -> None:
    with following(deployment, client) as follower:
        end = turned(follower).compared_up_to
    client.command("TRUNCATE TABLE metered_records")
    small_pipeline.settle(deployment, 0, stored=False)
    with following(deployment, client) as follower:
        mark = turned_once(follower)
        (followed,) = follower.partitions
    assert (mark.compared_up_to, mark.equal_up_to, mark.differences) == (0, 0, [])
    progress = followed.progress
    assert progress is not None
    assert (progress.read_to, progress.worker_lag, progress.stored_before) == (end, 0, 0)
    assert progress.sink_lag > 300
    assert progress.unstored_at_ms is not None


def turned_once(follower: Follower) -> ReconcileMark:
    follower.turn()
    (mark,) = follower.marks()
    return mark


def progress_end(settings: Settings) -> int:
    with closing(Log(settings.kafka)) as log:
        return progress_of(log, settings, 0).read_to
