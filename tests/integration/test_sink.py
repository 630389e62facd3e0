"""The sink stores every committed record once, whatever happens to it.

The live rollup tells: it adds up every block that a table took, so it shows a block that was cut anew.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from pipeline.clickhouse import Client, insert_block, open_client
from pipeline.kafka import KafkaException, TopicPartition, admin, list_offsets, topic_name
from pipeline.settings import Settings
from pipeline.sink.insert import TABLES, InsertFailedError
from pipeline.sink.opening import SinkRefusedError
from pipeline.sink.plan import BlockLimits, Buffer, block_token, next_plan
from pipeline.sink.plan_log import PlanLog, newest_plan
from schemas.sink_plan import SinkPlan
from schemas.topics import ACCOUNT_STATEMENTS, LEDGER_ENTRIES, METERED_RECORDS, SINK_PLANS
from tests import stack
from tests.integration.proxy import Proxy
from tests.integration.sinking import (
    NOW_MS,
    Record,
    Totals,
    Worker,
    alert,
    charged,
    dead_letter,
    metered,
    prepare,
    serving,
    sinks,
    statement,
    topic_ids,
    totals,
    wait_for_totals,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    return prepare(settings)


@pytest.fixture
def database(deployed: Settings) -> Iterator[Client]:
    with closing(open_client(deployed.clickhouse)) as client:
        yield client


def expect(
    events: int, *, accounts: int = 1, statements: int = 0, alerts: int = 0, dead_letters: int = 0
) -> Totals:
    return Totals(
        metered=events,
        entries=events,
        accounts=accounts,
        statements=statements,
        alerts=alerts,
        dead_letters=dead_letters,
        rolled_up=events,
        credits=Decimal("1.5") * events,
    )


def planned(settings: Settings, partition: int, records: list[Record]) -> tuple[SinkPlan, dict[str, bytes]]:
    """The plan over `records`, the first of their partition, and its blocks by table."""
    ids = topic_ids(settings)
    buffers = {topic_name(settings.kafka, topic): Buffer(0) for topic in TABLES}
    for topic, _key, value, at_ms in records:
        read = buffers[topic_name(settings.kafka, topic)]
        read.add(read.read_to, at_ms, value)
    plan = next_plan(partition, buffers, ids, BlockLimits(rows_max=10_000, bytes_max=10_000_000))
    blocks = {
        TABLES[topic]: b"\n".join(buffers[topic_name(settings.kafka, topic)].take(each.end))
        for topic, each in zip(TABLES, plan.ranges, strict=True)
    }
    return plan, blocks


def insert(client: Client, plan: SinkPlan, blocks: dict[str, bytes], *, tables: int = len(TABLES)) -> None:
    """The first `tables` blocks of a plan, as a sink does."""
    for each, (table, rows) in list(zip(plan.ranges, blocks.items(), strict=True))[:tables]:
        if rows:
            insert_block(client, table, rows, token=block_token(plan.partition, each, plan.mapping))


def newest(settings: Settings, partition: int) -> SinkPlan | None:
    place = TopicPartition(topic_name(settings.kafka, SINK_PLANS), partition)
    broker = admin(settings.kafka)
    ((_place, ends),) = list_offsets(broker, [place], "latest", timeout_seconds=10).items()
    return newest_plan(settings, partition, begins=0, ends=ends)


def test_committed_records_are_stored_once_and_aborted_ones_never(
    deployed: Settings, database: Client
) -> None:
    worker = Worker(deployed)
    worker.publish(0, charged("a", partition=0, offsets=range(100)))
    worker.publish(0, charged("a", partition=0, offsets=range(1000, 1100)), commit=False)
    worker.publish(1, [*charged("b", partition=1, offsets=range(50)), dead_letter(partition=1, offset=50)])
    worker.publish(1, [statement("b", partition=1, offset=51), alert("b", partition=1, offset=49)])
    with serving(deployed):
        wait_for_totals(database, expect(150, accounts=2, statements=1, alerts=1, dead_letters=1))
        worker.publish(0, charged("c", partition=0, offsets=range(100, 130)))
        wait_for_totals(database, expect(180, accounts=3, statements=1, alerts=1, dead_letters=1))


def test_amounts_instants_and_nested_values_arrive_exactly(deployed: Settings, database: Client) -> None:
    odd = metered(
        "a",
        partition=0,
        offset=7,
        credits=Decimal("0.000001"),
        rated_credits=Decimal("999999999999.999999"),
        attributes={"note": 'quote " newline \n null \x00 é', "deep": {"list": [1, None, 0.1]}},
    )
    newer = Record(
        odd.topic,
        odd.key,
        odd.value.replace(b'{"', b'{"attribute_of_tomorrow":{"x":1},"', 1),
        odd.timestamp_ms,
    )
    Worker(deployed).publish(0, [newer])
    with serving(deployed):
        stack.wait_until("one row", lambda: totals(database).metered == 1)
    (row,) = database.query("SELECT * FROM metered_records_v1").named_results()
    sent = json.loads(odd.value)
    assert (row["credits"], row["rated_credits"]) == (Decimal("0.000001"), Decimal("999999999999.999999"))
    assert round(row["accepted_at"].timestamp() * 1000) == NOW_MS
    assert json.loads(row["attributes"]) == sent["attributes"]
    assert json.loads(row["receipt"]) == sent["receipt"]
    assert (row["partition"], row["offset"]) == (0, 7)


@pytest.mark.parametrize(
    "tables_done",
    [0, 1, 2, len(TABLES)],
    ids=["before the insert", "after one table", "after two", "after all"],
)
def test_a_crash_after_the_plan_repeats_it_and_doubles_nothing(
    deployed: Settings, database: Client, tables_done: int
) -> None:
    records = [*charged("a", partition=0, offsets=range(60)), statement("a", partition=0, offset=59)]
    records.append(alert("a", partition=0, offset=59))
    worker = Worker(deployed)
    worker.publish(0, records)
    worker.publish(0, charged("a", partition=0, offsets=range(60, 100)))
    plan, blocks = planned(deployed, 0, records)
    PlanLog(deployed, 0).write(plan)
    insert(database, plan, blocks, tables=tables_done)
    # A sink that would cut other blocks, had it the choice.
    recut = deployed.model_copy(update={"sink": deployed.sink.model_copy(update={"batch_rows_max": 7})})
    with serving(recut):
        wait_for_totals(database, expect(100, statements=1, alerts=1))


@pytest.mark.parametrize("inserted", [True, False], ids=["settled", "to be repeated"])
def test_a_plan_of_a_release_that_stored_fewer_topics_goes_on_and_the_new_topic_begins_at_its_beginning(
    deployed: Settings, database: Client, *, inserted: bool
) -> None:
    records = charged("a", partition=0, offsets=range(20))
    worker = Worker(deployed)
    worker.publish(0, records)
    worker.publish(0, [statement("a", partition=0, offset=20)])
    plan, blocks = planned(deployed, 0, records)
    insert(database, plan, blocks)
    new = topic_name(deployed.kafka, ACCOUNT_STATEMENTS)
    older = [each for each in plan.ranges if each.topic != new]
    if inserted:
        older = [each.model_copy(update={"first": each.end}) for each in older]
    PlanLog(deployed, 0).write(plan.model_copy(update={"ranges": older, "inserted": inserted}))
    with serving(deployed):
        wait_for_totals(database, expect(20, statements=1))


def test_a_sink_that_lost_its_partition_can_insert_its_plan_late_but_plan_nothing_more(
    deployed: Settings, database: Client
) -> None:
    records = charged("a", partition=0, offsets=range(60))
    worker = Worker(deployed)
    worker.publish(0, records)
    plan, blocks = planned(deployed, 0, records)
    zombie = PlanLog(deployed, 0)
    zombie.write(plan)
    with serving(deployed):
        wait_for_totals(database, expect(60))
        worker.publish(0, charged("a", partition=0, offsets=range(60, 90)))
        wait_for_totals(database, expect(90))
        insert(database, plan, blocks)
        with pytest.raises(KafkaException):
            zombie.write(plan)
    assert totals(database) == expect(90)


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_token(
    deployed: Settings, database: Client
) -> None:
    url = urlsplit(deployed.clickhouse.url)
    with closing(Proxy((str(url.hostname), url.port or 0))) as proxy:
        through = deployed.clickhouse.model_copy(update={"url": f"http://127.0.0.1:{proxy.port}"})
        proxy.answers_to_lose = 3
        Worker(deployed).publish(0, charged("a", partition=0, offsets=range(100)))
        with serving(deployed.model_copy(update={"clickhouse": through})):
            wait_for_totals(database, expect(100))
            assert proxy.answers_to_lose == 0
    assert totals(database) == expect(100)


def test_an_outage_longer_than_the_retries_ends_the_sink_and_the_next_one_goes_on(
    deployed: Settings, database: Client
) -> None:
    url = urlsplit(deployed.clickhouse.url)
    with closing(Proxy((str(url.hostname), url.port or 0))) as proxy:
        through = deployed.model_copy(
            update={
                "clickhouse": deployed.clickhouse.model_copy(
                    update={"url": f"http://127.0.0.1:{proxy.port}"}
                ),
                "sink": deployed.sink.model_copy(update={"insert_attempts_max": 3}),
            }
        )
        worker = Worker(deployed)
        with serving(through) as ended:
            worker.publish(0, charged("a", partition=0, offsets=range(10)))
            wait_for_totals(database, expect(10))
            proxy.is_refusing = True
            worker.publish(0, charged("a", partition=0, offsets=range(10, 30)))
            stack.wait_until("the sink ends", lambda: bool(ended))
            assert isinstance(ended[0], InsertFailedError)
        proxy.is_refusing = False
        with serving(through):
            wait_for_totals(database, expect(30))


def test_a_block_stays_within_one_month(deployed: Settings, database: Client) -> None:
    # Around the last midnight of a month, near enough to the present for the topic's retention.
    (boundary_ms,) = database.query(
        "SELECT toUnixTimestamp64Milli(toDateTime64(toStartOfMonth(now()), 3, 'UTC'))"
    ).result_rows[0]
    worker = Worker(deployed)
    worker.publish(
        0,
        [
            *charged("a", partition=0, offsets=range(5), at_ms=boundary_ms - 1),
            *charged("a", partition=0, offsets=range(5, 9), at_ms=boundary_ms),
        ],
    )
    with serving(deployed):
        wait_for_totals(database, expect(9))
    rows = database.query(
        "SELECT partition, sum(rows), count() FROM system.parts WHERE active AND table = 'metered_records' "
        "AND database = currentDatabase() GROUP BY partition ORDER BY partition"
    ).result_rows
    assert [(rows_in, parts) for _month, rows_in, parts in rows] == [(5, 1), (4, 1)]
    tokens = stack.wait_until("both inserts in the log", lambda: _insert_tokens(database, "metered_records"))
    assert len(tokens) == 2


def _insert_tokens(database: Client, table: str) -> set[str] | None:
    database.command("SYSTEM FLUSH LOGS")
    rows = database.query(
        "SELECT Settings['insert_deduplication_token'] FROM system.query_log WHERE type = 'QueryFinish' "
        "AND query_kind = 'Insert' AND current_database = currentDatabase() "
        "AND Settings['insert_deduplication_token'] != '' "
        "AND has(tables, concat(currentDatabase(), '.', {table:String}))",
        parameters={"table": table},
    ).result_rows
    return {str(token) for (token,) in rows} or None


def test_an_idle_partition_says_that_it_is_settled(deployed: Settings, database: Client) -> None:
    Worker(deployed).publish(0, charged("a", partition=0, offsets=range(10)))
    with serving(deployed):
        wait_for_totals(database, expect(10))
        stack.wait_until("it is settled", lambda: (plan := newest(deployed, 0)) and plan.inserted)
    plan = newest(deployed, 0)
    assert plan is not None
    ends = {each.topic: each.end for each in plan.ranges}
    # Ten records and the marker of their transaction, so that nothing seems lost when retention takes them.
    assert ends[topic_name(deployed.kafka, METERED_RECORDS)] == 11


def test_records_that_were_deleted_before_they_were_stored_stop_the_sink(deployed: Settings) -> None:
    records = charged("a", partition=0, offsets=range(20))
    Worker(deployed).publish(0, records)
    PlanLog(deployed, 0).write(planned(deployed, 0, records)[0])
    topic = topic_name(deployed.kafka, LEDGER_ENTRIES)
    broker = admin(deployed.kafka)
    for answer in broker.delete_records([TopicPartition(topic, 0, 5)]).values():
        answer.result(10)
    with serving(deployed) as ended:
        stack.wait_until("the sink refuses", lambda: bool(ended))
    assert isinstance(ended[0], SinkRefusedError)
    assert "ledger-entries.v1 partition 0 from offset 0 to 5 were deleted" in str(ended[0])


def test_a_topic_that_was_created_again_stops_the_sink(deployed: Settings) -> None:
    records = charged("a", partition=0, offsets=range(20))
    Worker(deployed).publish(0, records)
    plan, _blocks = planned(deployed, 0, records)
    first, *others = plan.ranges
    stranger = first.model_copy(update={"topic_id": "another"})
    PlanLog(deployed, 0).write(plan.model_copy(update={"ranges": [stranger, *others]}))
    with serving(deployed) as ended:
        stack.wait_until("the sink refuses", lambda: bool(ended))
    assert isinstance(ended[0], SinkRefusedError)
    assert "deleted and created again" in str(ended[0])


def test_sinks_that_are_killed_stopped_and_continued_store_everything_once(
    deployed: Settings, database: Client
) -> None:
    worker = Worker(deployed)
    published = 0

    def publish(batches: int) -> None:
        nonlocal published
        for _ in range(batches):
            for partition in (0, 1):
                account = f"account-{partition}"
                offsets = range(published, published + 200)
                worker.publish(partition, charged(account, partition=partition, offsets=offsets))
            published += 200

    def stored_more_than(events: int) -> bool:
        return totals(database).rolled_up > events

    with sinks(deployed, 2) as (victim, zombie):
        publish(5)
        stack.wait_until("something is stored", lambda: stored_more_than(0))
        victim.send(signal.SIGKILL)
        publish(5)
        events = 2 * published
        # Alone in its own partition the other would leave the victim's last thousand.
        stack.wait_until("the other takes over", lambda: stored_more_than(events - 1000))
        zombie.send(signal.SIGSTOP)
        publish(5)
        with sinks(deployed, 1) as (heir,):
            stack.wait_until("the heir goes on", lambda: stored_more_than(events))
            zombie.send(signal.SIGCONT)
            publish(5)
            wait_for_totals(database, expect(2 * published, accounts=2))
            heir.send(signal.SIGTERM)
            # It ends well, unless the zombie fenced it: woken in the midst of taking over, it takes over once more.
            assert heir.wait(20) == 0 or "fenced by a newer instance" in heir.log.read_text()
            publish(1)
            if zombie.code is None:
                wait_for_totals(database, expect(2 * published, accounts=2))
    with serving(deployed):
        wait_for_totals(database, expect(2 * published, accounts=2))
