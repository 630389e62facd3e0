"""A worker and a sink without their processes: the core between real topics and real tables.

For tests of what comes after them. For each batch one transaction, and one block a table.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Self

from pipeline import kafka as clients
from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.bootstrap import load_core
from pipeline.clickhouse import insert_block, open_client
from pipeline.load import LoadRecord
from pipeline.metering import Batch, Folded, initial_cursor
from pipeline.reconcile.topics import Log
from pipeline.settings import ClickHouseSettings, Settings
from pipeline.sink.plan import MAPPING_VERSION
from pipeline.sink.plan_log import PlanLog
from pipeline.state import CURSOR_KEY, encode_cursor
from schemas import topics
from schemas.sink_plan import PlannedRange, SinkPlan
from tests.bench.peers.state import PartitionState

SECONDS_MAX = 30
ALL_RECORDS = 100_000
TABLES = {
    topics.METERED_RECORDS: "metered_records",
    topics.LEDGER_ENTRIES: "ledger_entries",
    topics.ACCOUNT_ALERTS: "account_alerts",
    topics.ACCOUNT_BALANCES: "account_balances",
    topics.ACCOUNT_STATEMENTS: "account_statements",
    topics.TOPUP_ORDERS: "topup_orders",
    topics.DEAD_LETTERS: "dead_letters",
}


def run(settings: Settings, load: Iterable[LoadRecord], *, batch_rows: int = ALL_RECORDS) -> None:
    """Publish the load and carry it through to ClickHouse, so many records in a batch."""
    ensure_topics(settings)
    migrate(settings)
    publish(settings, load)
    for partition in range(settings.kafka.partitions):
        for folded in _fold(settings, partition, batch_rows):
            _commit(settings, partition, folded)
            _insert(settings, partition, folded)
        settle(settings, partition)


def settle(settings: Settings, partition: int, *, stored: bool = True) -> None:
    """The plan of a sink that has stored everything, or that begins."""
    broker = clients.admin(settings.kafka)
    names = [clients.topic_name(settings.kafka, topic) for topic in TABLES]
    places = [clients.TopicPartition(name, partition) for name in names]
    ends = clients.list_offsets(broker, places, "latest", timeout_seconds=SECONDS_MAX)
    ranges = [
        PlannedRange(
            topic=name,
            topic_id=clients.topic_id(broker, name, timeout_seconds=SECONDS_MAX),
            first=ends[name, partition],
            end=ends[name, partition],
        )
        for name in (names if stored else [])
    ]
    plan = SinkPlan(partition=partition, mapping=MAPPING_VERSION, inserted=True, ranges=ranges)
    PlanLog(settings, partition).write(plan)


def publish(settings: Settings, load: Iterable[LoadRecord]) -> None:
    """To the input log, as producers do."""
    producer = clients.producer(settings.kafka)
    topic = clients.topic_name(settings.kafka, topics.ACCOUNT_EVENTS)
    for record in load:
        producer.produce(topic, key=record.key, value=record.value, headers=list(record.headers))
    assert producer.flush(SECONDS_MAX) == 0


class KeptTables:
    """Rows of every table as they stand now, beside their database, to bring back what a test has altered."""

    def __init__(self, clickhouse: ClickHouseSettings) -> None:
        self._database, self._beside = clickhouse.database, f"{clickhouse.database}_kept"
        self._client = open_client(clickhouse)
        filled = "SELECT name FROM system.tables WHERE database = currentDatabase() AND total_rows > 0"
        self._tables = [str(name) for (name,) in self._client.query(filled).result_rows]
        self._client.command(f"CREATE DATABASE {self._beside}")
        for table in self._tables:
            self._client.command(f"CREATE TABLE {self._beside}.{table} AS {table}")
            self._copy(self._database, self._beside, table)

    def bring_back(self) -> None:
        for table in self._tables:
            self._client.command(f"SYSTEM START MERGES {self._database}.{table}")
            self._client.command(f"TRUNCATE TABLE {table}")
            self._copy(self._beside, self._database, table)

    def _copy(self, source: str, target: str, table: str) -> None:
        """By links to the parts: no view sees it, no block is taken for one that was there."""
        self._client.command(f"ALTER TABLE {target}.{table} ATTACH PARTITION ALL FROM {source}.{table}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.command(f"DROP DATABASE {self._beside}")
        self._client.close()


def _fold(settings: Settings, partition: int, batch_rows: int) -> Iterator[Folded]:
    core = load_core(settings)
    with closing(Log(settings.kafka)) as reader:
        log = [clients.logged(message) for message in reader.messages(topics.ACCOUNT_EVENTS, partition)]
    state = PartitionState(partition=partition, cursor=initial_cursor(core, "small"))
    for first in range(0, max(len(log), 1), batch_rows):
        batch = Batch(core, state.view())
        batch.feed(log[first : first + batch_rows])
        folded = batch.finish()
        state.apply(folded)
        yield folded


def _commit(settings: Settings, partition: int, folded: Folded) -> None:
    producer = clients.producer(settings.kafka, transactional_id=f"small-{partition}")
    producer.init_transactions(SECONDS_MAX)
    producer.begin_transaction()

    def produce(topic: str, key: bytes, value: bytes) -> None:
        producer.produce(clients.topic_name(settings.kafka, topic), partition=partition, key=key, value=value)

    for record in folded.records:
        produce(record.topic, record.key, record.value)
    changelog = topics.changelog(settings.worker.app_id)
    for key, row in [*folded.accounts.items(), *folded.published.items()]:
        produce(changelog, key, row)
    produce(changelog, CURSOR_KEY, encode_cursor(folded.cursor))
    producer.commit_transaction(SECONDS_MAX)


def _insert(settings: Settings, partition: int, folded: Folded) -> None:
    rows: defaultdict[str, list[bytes]] = defaultdict(list)
    for record in folded.records:
        if record.topic in TABLES:
            rows[TABLES[record.topic]].append(record.value)
    client = open_client(settings.clickhouse)
    for table, lines in rows.items():
        insert_block(
            client, table, b"\n".join(lines), token=f"{table}-{partition}-{folded.cursor.next_offset}"
        )
    client.close()
