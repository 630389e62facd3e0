"""Reconcile finds nothing where nothing is wrong, and names whatever is, down to a micro-credit."""

import time
from collections.abc import Callable, Iterator

import orjson
import pytest

from pipeline import kafka as clients
from pipeline.clickhouse import ClickHouseError, Client, open_client
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate
from pipeline.load.record import command, instant
from pipeline.reconcile import Kind, Report, reconcile
from pipeline.reconcile.partition import RETENTION_MARGIN_MS, RETENTION_MS, PartitionCheck
from pipeline.reconcile.report import Findings
from pipeline.reconcile.schedules import check_schedules
from pipeline.reconcile.table import read_table
from pipeline.reconcile.topics import OFFSET_BEGINNING, Log
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from schemas import topics
from schemas.account_command import TICK_TYPE
from tests.conftest import COMMAND_KEY_ID, COMMAND_SECRET, own_settings
from tests.integration import small_pipeline
from tests.stack import wait_until

pytestmark = pytest.mark.integration

EVENTS, ACCOUNTS = 400, 20
SPENDER = "spender"


@pytest.fixture(scope="module")
def deployment(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """For tests that alter what they read, or what stands in ClickHouse (`tables`). Kafka keeps what it has."""
    with own_settings(kafka, clickhouse, tmp_path_factory.mktemp("reconciled")) as settings:
        yield lived(settings)


@pytest.fixture
def expendable(settings: Settings) -> Settings:
    """For a test that writes to Kafka."""
    return lived(settings)


def lived(settings: Settings) -> Settings:
    """Two partitions with a small load that has gone all the way."""
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 2})})
    plan = LoadPlan(
        seed=5, events=EVENTS, accounts=ACCOUNTS, base_ms=int(time.time() * 1000), malformed_share=0.05,
        duplicate_share=0.05, conflict_share=0.02, dry_share=0.2, hold_share=0.05, change_share=0.05,
    )  # fmt: skip
    tick = LoadRecord(b"", orjson.dumps({"type": TICK_TYPE}), ())
    small_pipeline.run(settings, [*generate(plan, _key()), *_spending(plan.base_ms), tick])
    return settings


def _spending(at_ms: int) -> Iterator[LoadRecord]:
    """An account that goes 20 credits beyond its grants, holds some more, and is closed."""

    def ordered(verb: str, **data: object) -> LoadRecord:
        return command(_key(), verb, SPENDER, id=f"spender-{verb}", time_ms=at_ms, data=data)

    def used(images: int) -> LoadRecord:
        event = {
            "specversion": "1.0", "id": f"spent-{images}", "source": "/tests", "subject": SPENDER,
            "type": "org.apimage.usage.image_analysis.v1", "time": instant(at_ms), "data": {"images": images},
        }  # fmt: skip
        return LoadRecord(SPENDER.encode(), orjson.dumps(event), ())

    yield ordered("open", plan="starter")
    yield ordered("configure", overage_ceiling="100", alert_thresholds=[80, 100])
    yield from (used(410), used(110), used(90))
    yield ordered("close")
    for name, data in (("holder", {"credits": "530"}), ("idler", {"credits": "1"})):
        yield command(_key(), "open", name, id=f"open-{name}", time_ms=at_ms, data={"plan": "starter"})
        ceiling = {"overage_ceiling": "100"}
        yield command(_key(), "configure", name, id=f"configure-{name}", time_ms=at_ms, data=ceiling)
        hold = {"hold_id": "h", **data}
        yield command(_key(), "hold", name, id=f"hold-{name}", time_ms=at_ms, data=hold)


@pytest.fixture
def client(deployment: Settings) -> Iterator[Client]:
    client = open_client(deployment.clickhouse)
    yield client
    client.close()


@pytest.fixture(scope="module")
def kept(deployment: Settings) -> Iterator[small_pipeline.KeptTables]:
    with small_pipeline.KeptTables(deployment.clickhouse) as kept:
        yield kept


@pytest.fixture
def tables(client: Client, kept: small_pipeline.KeptTables) -> Iterator[Client]:
    """The tables of `deployment`, that may be altered: with the test they are what they were."""
    yield client
    kept.bring_back()


def _report(settings: Settings) -> Report:
    return reconcile(settings, sink_wait_seconds=0)


def _some_charges(client: Client, count: int) -> list[tuple[int, int, str, str]]:
    """Partition, offset, account and event of metered records in the middle, each of another account."""
    rows = client.query(
        "SELECT partition, offset, account_id, event_id FROM metered_records "
        f"WHERE outcome = 'metered' AND offset > 30 ORDER BY offset, partition LIMIT 1 BY account_id LIMIT {count}"
    ).result_rows
    return [
        (int(partition), int(offset), str(account), str(event)) for partition, offset, account, event in rows
    ]


def test_nothing_differs_where_all_went_well(deployment: Settings) -> None:
    report = _report(deployment)
    assert report.differences == ()
    assert report.equal
    assert report.accounts == ACCOUNTS + 3
    assert sum(report.outcomes.values()) == report.records >= EVENTS
    outcomes = {"metered", "denied", "duplicate", "dead_letter", "accepted", "refused", "tick"}
    assert report.outcomes.keys() == outcomes
    assert all(each.equal_up_to == each.watermark for each in report.partitions)


SYNC = "SETTINGS mutations_sync = 2"
CHANGES: dict[Kind, str] = {
    Kind.ROW_MISSING: "ALTER TABLE {table} DELETE WHERE {where} " + SYNC,
    Kind.ROW_ALTERED: "ALTER TABLE {table} UPDATE {amount} = {amount} + 0.000001::Decimal(18, 6) WHERE {where} "
    + SYNC,
    Kind.ROW_DOUBLED: "INSERT INTO {table} SELECT * FROM {table} WHERE {where}",
}
"""One row lost, one amount off by a micro-credit, one row twice. Mutations first: they need merges."""


def test_each_row_lost_altered_or_doubled_in_clickhouse_is_named(
    deployment: Settings, tables: Client
) -> None:
    expected = set()
    charges = iter(_some_charges(tables, 2 * len(CHANGES)))
    for table, amount in (("metered_records", "rated_credits"), ("ledger_entries", "credits")):
        for kind, statement in CHANGES.items():
            partition, offset, account, event = next(charges)
            if kind is Kind.ROW_DOUBLED:  # A merge would take the second one away again.
                tables.command(f"SYSTEM STOP MERGES {deployment.clickhouse.database}.{table}")
            where = f"partition = {partition} AND offset = {offset}"
            tables.command(statement.format(table=table, amount=amount, where=where))
            expected.add((kind, table, partition, offset, account, event))

    report = _report(deployment)

    rows = [each for each in report.differences if each.kind is not Kind.ROLLUP_DIFFERS]
    named = {
        (each.kind, each.where, each.partition, each.offset, each.account_id, each.event_id) for each in rows
    }
    assert named == expected
    assert len(rows) == len(expected)
    assert report.counts[Kind.ROLLUP_DIFFERS] == 2, (
        "of the lost and the altered row; inserting adds to the rollup too"
    )
    for each in report.partitions:
        changed = [offset for _, _, number, offset, _, _ in expected if number == each.partition]
        assert each.equal_up_to == min(changed, default=each.watermark)


def _some_statement(client: Client) -> tuple[int, int, str]:
    """Partition, offset and account of a statement with use in it."""
    rows = client.query(
        "SELECT partition, offset, account_id FROM account_statements WHERE used > 0 ORDER BY offset LIMIT 1"
    ).result_rows
    partition, offset, account_id = rows[0]
    return int(partition), int(offset), str(account_id)


@pytest.mark.parametrize("kind", CHANGES)
def test_one_changed_statement_in_clickhouse_is_named(
    deployment: Settings, tables: Client, kind: Kind
) -> None:
    partition, offset, account = _some_statement(tables)
    sql = CHANGES[kind]
    if kind is Kind.ROW_DOUBLED:
        tables.command(f"SYSTEM STOP MERGES {deployment.clickhouse.database}.account_statements")
    where = f"partition = {partition} AND offset = {offset}"
    tables.command(sql.format(table="account_statements", amount="used", where=where))

    (named,) = _report(deployment).differences
    assert (named.kind, named.where, named.partition) == (kind, "account_statements", partition)
    assert (named.offset, named.account_id) == (offset, account)


STATEMENT_CHANGES: dict[str, tuple[dict[str, object], set[str]]] = {
    "it does not add up": ({"used": "0.5"}, {"closing", "used"}),
    "it adds up, but not to its entries": (
        {"used": "0", "granted": "0", "closing": "0"},
        {"used", "granted"},
    ),
    "it ends at another entry": ({"last_entry_seq": 1}, {"used"}),
}


@pytest.mark.parametrize("change", STATEMENT_CHANGES)
def test_a_statement_that_is_not_what_its_entries_say_is_named(
    deployment: Settings, client: Client, change: str
) -> None:
    partition, _, account = _some_statement(client)
    changed, what = STATEMENT_CHANGES[change]
    log = _Altered(deployment.kafka, topics.ACCOUNT_STATEMENTS, account, changed)
    report = _checked(deployment, client, log, partition)
    named = [each for each in report.listed if each.kind is Kind.STATEMENT_DIFFERS]
    assert {each.account_id for each in named} == {account}
    assert what <= {each.expected.split()[0] for each in named}


def test_a_missing_newest_statement_shows_against_the_table(deployment: Settings, client: Client) -> None:
    partition, _, account = _some_statement(client)
    log = _Altered(deployment.kafka, topics.ACCOUNT_STATEMENTS, account, None)
    named = [
        each for each in _checked(deployment, client, log, partition).listed if each.account_id == account
    ]
    assert {(each.kind, each.where) for each in named} >= {(Kind.STATEMENT_DIFFERS, "changelog")}


def test_a_capture_needs_its_metered_record_and_only_an_accepted_one_has_it(
    deployment: Settings, client: Client
) -> None:
    where = "event_id LIKE 'held-%' ORDER BY offset LIMIT 1"
    ((partition, offset, account),) = client.query(
        f"SELECT partition, offset, account_id FROM metered_records WHERE {where}"
    ).result_rows
    result: dict[str, object] = {"outcome": "refused", "reason": "unknown_hold"}
    for topic, changed, kind in (
        (topics.METERED_RECORDS, None, Kind.NO_OUTCOME),
        (topics.COMMAND_RESULTS, result, Kind.CHARGE_WITHOUT_CAPTURE),
        (topics.COMMAND_RESULTS, None, Kind.NO_OUTCOME),
    ):
        log = _Altered(deployment.kafka, topic, str(account), changed, offset=int(offset))
        named = {
            (each.kind, each.offset) for each in _checked(deployment, client, log, int(partition)).listed
        }
        assert (kind, offset) in named, (topic, changed)


def test_held_credits_of_table_and_topic_are_compared(deployment: Settings, client: Client) -> None:
    ((partition, account),) = client.query(
        "SELECT partition, account_id FROM account_balances_v1 WHERE status = 'open' LIMIT 1"
    ).result_rows
    log = _Altered(deployment.kafka, topics.ACCOUNT_BALANCES, str(account), {"held": "999"})
    (named,) = _checked(deployment, client, log, int(partition)).listed
    assert (named.kind, named.where, named.account_id) == (
        Kind.BALANCE_DIFFERS,
        topics.ACCOUNT_BALANCES,
        account,
    )


OVERAGE_CHANGES: dict[str, tuple[str, dict[str, object], Kind, str]] = {
    "a statement with less overage": (
        topics.ACCOUNT_STATEMENTS, {"overage": "19"}, Kind.STATEMENT_DIFFERS, "overage 20000000"),
    "a statement with another amount of money": (
        topics.ACCOUNT_STATEMENTS, {"overage_amount": "0.61"}, Kind.STATEMENT_DIFFERS, "overage_amount 0.60"),
    "a balance with other overage": (
        topics.ACCOUNT_BALANCES, {"overage": "0.000001"}, Kind.BALANCE_DIFFERS, "_Balance("),
    "an alert below its threshold": (
        topics.ACCOUNT_ALERTS, {"used": "1"}, Kind.ALERT_DIFFERS, "at least 80 % used"),
    "entries that name another grant than overage": (
        topics.LEDGER_ENTRIES, {"grants": []}, Kind.CHAIN_BROKEN, "overage 20000000"),
}  # fmt: skip


@pytest.mark.parametrize("change", OVERAGE_CHANGES)
def test_what_differs_in_overage_and_alerts_is_named(
    deployment: Settings, client: Client, change: str
) -> None:
    topic, changed, kind, expected = OVERAGE_CHANGES[change]
    partition = _partition_of(client, SPENDER)
    log = _Altered(deployment.kafka, topic, SPENDER, changed)
    named = [each for each in _checked(deployment, client, log, partition).listed if each.kind is kind]
    assert {each.account_id for each in named} == {SPENDER}
    assert any(each.expected.startswith(expected) for each in named)


@pytest.mark.parametrize("kind", CHANGES)
def test_one_changed_alert_in_clickhouse_is_named(deployment: Settings, tables: Client, kind: Kind) -> None:
    sql = CHANGES[kind]
    if kind is Kind.ROW_DOUBLED:
        tables.command(f"SYSTEM STOP MERGES {deployment.clickhouse.database}.account_alerts")
    where = f"account_id = '{SPENDER}' AND threshold = 80"
    tables.command(sql.format(table="account_alerts", amount="used", where=where))

    (named,) = _report(deployment).differences
    assert (named.kind, named.where, named.account_id) == (kind, "account_alerts", SPENDER)


def test_an_alert_that_was_sent_twice_is_named(expendable: Settings) -> None:
    partition = next(number for number in range(2) if _alerts(expendable, number))
    doubled = _alerts(expendable, partition)[-1]
    _append(expendable, topics.ACCOUNT_ALERTS, partition, orjson.dumps(doubled))
    named = {(each.kind, each.event_id) for each in _report(expendable).differences}
    assert named == {(Kind.ALERT_DIFFERS, doubled["alert_id"]), (Kind.ROW_MISSING, doubled["alert_id"])}


def _alerts(settings: Settings, partition: int) -> list[dict[str, object]]:
    reader = Log(settings.kafka)
    found = [
        orjson.loads(message.value() or b"") for message in reader.messages(topics.ACCOUNT_ALERTS, partition)
    ]
    reader.close()
    return found


def _partition_of(client: Client, account: str) -> int:
    ((partition,),) = client.query(
        f"SELECT partition FROM account_balances_v1 WHERE account_id = '{account}'"
    ).result_rows
    return int(partition)


class _Altered(Log):
    """The log with one account's records of one topic changed, or without them: a topic itself is append-only."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        account: str,
        changed: dict[str, object] | None,
        *,
        offset: int | None = None,
    ) -> None:
        super().__init__(kafka)
        self._altered = (topic, account, changed, offset)

    def messages(
        self, topic: str, partition: int, *, start: int = OFFSET_BEGINNING
    ) -> Iterator[clients.Message]:
        altered, account, changed, offset = self._altered
        for message in super().messages(topic, partition, start=start):
            if topic != altered or message.key() != account.encode():
                yield message
                continue
            record = orjson.loads(message.value() or b"")
            if offset is not None and record["offset"] != offset:
                yield message
            elif changed is not None:
                message.set_value(orjson.dumps({**record, **changed}))
                yield message


def _checked(deployment: Settings, client: Client, log: Log, partition: int) -> Findings:
    findings = Findings()
    table = read_table(log, deployment.worker.app_id, partition)
    PartitionCheck(log, table, Warehouse(client), findings).run()
    log.close()
    return findings


def test_a_balance_altered_by_a_micro_credit_is_named(deployment: Settings, tables: Client) -> None:
    tables.command(
        "ALTER TABLE account_balances UPDATE posted = posted - toDecimal64('0.000001', 6) "
        "WHERE account_id = 'acct-000003' SETTINGS mutations_sync = 2"
    )
    (named,) = _report(deployment).differences
    assert (named.kind, named.where, named.account_id) == (
        Kind.BALANCE_DIFFERS,
        "account_balances",
        "acct-000003",
    )


def _append(settings: Settings, topic: str, partition: int, value: bytes, key: bytes = b"x") -> None:
    producer = clients.producer(settings.kafka)
    producer.produce(clients.topic_name(settings.kafka, topic), partition=partition, key=key, value=value)
    assert producer.flush(small_pipeline.SECONDS_MAX) == 0


def _last(settings: Settings, topic: str, suits: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    reader = Log(settings.kafka)
    values = [orjson.loads(message.value() or b"") for message in reader.messages(topic, 0)]
    reader.close()
    found: dict[str, object] = [value for value in values if suits(value)][-1]
    return found


def test_a_record_doubled_in_kafka_is_named(expendable: Settings) -> None:
    doubled = _last(expendable, topics.METERED_RECORDS, lambda record: record["outcome"] == "metered")
    _append(expendable, topics.METERED_RECORDS, 0, orjson.dumps(doubled))

    kinds = {each.kind for each in _report(expendable).differences if each.event_id == doubled["event_id"]}
    assert {Kind.OUTCOME_DOUBLED, Kind.CHARGE_WITHOUT_ENTRY} <= kinds


def test_an_entry_changed_in_kafka_breaks_the_chain(expendable: Settings) -> None:
    entry = _last(expendable, topics.LEDGER_ENTRIES, lambda record: record["kind"] == "usage")
    _append(expendable, topics.LEDGER_ENTRIES, 0, orjson.dumps({**entry, "credits": "-0.000001"}))

    report = _report(expendable)
    broken = {each.expected.split()[0] for each in report.differences if each.kind is Kind.CHAIN_BROKEN}
    assert {"entry_seq", "previous_hash", "balance_after", "entry_hash"} <= broken


def test_a_row_of_the_table_that_nobody_wrote_is_named(expendable: Settings) -> None:
    changelog = topics.changelog(expendable.worker.app_id)
    forged = (
        b'{"v":1,"boundary":1,"plan":["free","free"],"period":[0,1,0,0],"closed":false,"totals":[0,0,0,0,0,0,0,0],'
        b'"seq":1,"hash":"","posted":1000000,"grants":[],"pending":[],"holds":[]}'
    )
    _append(expendable, changelog, 0, forged, key=b"forged")

    named = {(each.kind, each.where, each.account_id) for each in _report(expendable).differences}
    assert (Kind.TABLE_DIGEST, "changelog", "") in named
    assert (Kind.BALANCE_DIFFERS, "changelog", "forged") in named


def test_published_content_that_is_not_what_the_cursor_says_is_named(expendable: Settings) -> None:
    changelog, key = topics.changelog(expendable.worker.app_id), "__price_book__/2026-01"
    _append(expendable, changelog, 0, b'{"version":"2026-01"}', key=key.encode())

    named = {(each.kind, each.partition, each.event_id) for each in _report(expendable).differences}
    assert (Kind.TABLE_DIGEST, 0, "") in named
    assert (Kind.SCHEDULE_DIFFERS, 0, key) in named


@pytest.mark.parametrize(("after_the_clock_ms", "is_named"), [(0, True), (1, False)])
def test_a_version_that_one_partition_lacks_is_named_once_it_counts(
    deployment: Settings, after_the_clock_ms: int, is_named: bool
) -> None:
    log = Log(deployment.kafka)
    tables = [read_table(log, deployment.worker.app_id, partition) for partition in range(2)]
    log.close()
    key, at = "__price_book__/late", tables[1].clock_ms + after_the_clock_ms
    tables[0].versions[key] = ("a1", at)
    tables[0].contents[key] = "a1"
    findings = Findings()
    check_schedules(tables, findings)

    assert [(each.kind, each.partition, each.event_id) for each in findings.listed] == (
        [(Kind.SCHEDULE_DIFFERS, 1, key)] if is_named else []
    )


def test_what_the_worker_has_not_reached_is_no_difference(expendable: Settings) -> None:
    before = _report(expendable)
    small_pipeline.publish(expendable, [*generate(LoadPlan(seed=6, events=9, accounts=1, base_ms=0), _key())])
    report = _report(expendable)
    assert report.equal
    assert (report.records, report.outcomes) == (before.records, before.outcomes)


def _key() -> CommandKey:
    return CommandKey(key_id=COMMAND_KEY_ID, secret=bytes.fromhex(COMMAND_SECRET))


def test_what_retention_took_away_is_no_difference_and_what_it_leaves_is_looked_for(
    settings: Settings,
) -> None:
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
    at_ms = time.time_ns() // 1_000_000

    def load() -> Iterator[LoadRecord]:
        yield from _spending(at_ms)
        log = Log(settings.kafka)
        count = len(list(_spending(at_ms)))
        wait_until("all but the youngest are there", lambda: log.bounds(topics.ACCOUNT_EVENTS, 0)[1] == count)
        log.close()
        time.sleep(0.01)  # The broker gives the youngest a time of its own.
        yield command(_key(), "open", "young", id="open-young", time_ms=at_ms, data={"plan": "starter"})

    small_pipeline.run(settings, load())
    log, client = Log(settings.kafka), open_client(settings.clickhouse)
    *_, young = log.messages(topics.ACCOUNT_EVENTS, 0)
    *_, answer = log.messages(topics.COMMAND_RESULTS, 0)
    answered, alerts_end = answer.offset() or 0, log.bounds(topics.ACCOUNT_ALERTS, 0)[1]
    a_week_later = young.timestamp()[1] + RETENTION_MS[topics.COMMAND_RESULTS] - RETENTION_MARGIN_MS

    def named(*, now_ms: int) -> set[str]:
        findings = Findings()
        table = read_table(log, settings.worker.app_id, 0)
        PartitionCheck(log, table, Warehouse(client), findings, now_ms=now_ms).run()
        return set(findings.counts)

    _delete(settings, {topics.COMMAND_RESULTS: answered, topics.ACCOUNT_ALERTS: alerts_end})
    assert named(now_ms=a_week_later) == set()
    assert named(now_ms=at_ms) == {Kind.NO_OUTCOME, Kind.ROW_UNKNOWN}
    _delete(settings, {topics.COMMAND_RESULTS: answered + 1})
    assert named(now_ms=a_week_later) == {Kind.NO_OUTCOME}
    log.close()
    client.close()


class _CutMeanwhile(Log):
    """Retention comes between its question where a topic begins and the reading."""

    def __init__(self, settings: Settings, before: int) -> None:
        super().__init__(settings.kafka)
        self._settings = settings
        self._before = before

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        found = super().bounds(topic, partition)
        _delete(self._settings, {topic: self._before})
        return found


def test_what_retention_takes_away_while_it_is_read_is_stepped_over(expendable: Settings) -> None:
    log = Log(expendable.kafka)
    whole = [message.offset() or 0 for message in log.messages(topics.METERED_RECORDS, 0)]
    log.close()
    cut = _CutMeanwhile(expendable, before=whole[10])
    assert [message.offset() for message in cut.messages(topics.METERED_RECORDS, 0)] == whole[10:]
    cut.close()


def _delete(settings: Settings, before: dict[str, int]) -> None:
    """As retention does: of partition 0 of each topic everything before an offset."""
    places = [
        clients.TopicPartition(clients.topic_name(settings.kafka, name), 0, offset)
        for name, offset in before.items()
    ]
    client = clients.admin(settings.kafka)
    for future in client.delete_records(places).values():
        future.result(30)


def test_an_answer_that_clickhouse_breaks_off_says_why(client: Client) -> None:
    broken = "SELECT throwIf(number = 300000, 'the disk is gone') FROM numbers(400000) SETTINGS max_block_size = 1000"
    with pytest.raises(ClickHouseError, match=r"broke off its answer.*the disk is gone"):
        list(Warehouse(client)._select(broken))  # pyright: ignore[reportPrivateUsage]
