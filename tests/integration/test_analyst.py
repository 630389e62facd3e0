"""Analysts read the stable views with any client, get exact amounts, and can change nothing."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal

import clickhouse_driver
import orjson
import pytest

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import Client, DatabaseError, insert_block, open_analyst, open_client
from pipeline.query.accounts import balance, newest_entries, newest_statements, usage
from pipeline.query.explanation import explain
from pipeline.reconcile.stored import STATEMENTS, altered
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import ClickHouseSettings, Settings
from pipeline.sink.insert import TABLES
from tests.integration.sinking import NOW_MS, Record, charged, dead_letter, metered, statement

pytestmark = pytest.mark.integration

QUESTION = "SELECT account_id, sum(credits) AS credits FROM metered_records_v1 GROUP BY account_id ORDER BY account_id"


def store(client: Client, records: list[Record], token: str) -> None:
    for topic, table in TABLES.items():
        rows = b"\n".join(each.value for each in records if each.topic == topic)
        if rows:
            insert_block(client, table, rows, token=token)


@pytest.fixture
def stored(settings: Settings) -> Settings:
    """Account `a` with three charges, `b` with one and a duplicate of it, and a dead letter."""
    migrate(settings)
    with closing(open_client(settings.clickhouse)) as owner:
        again = metered(
            "b", partition=1, offset=1, event_id="event-1-0", outcome="duplicate", reason="duplicate",
            credits=Decimal(0), entry_seq=0, first_offset=0, receipt=None,
        )  # fmt: skip
        store(owner, charged("a", partition=0, offsets=range(3)), "first")
        store(
            owner,
            [*charged("b", partition=1, offsets=range(1)), again, dead_letter(partition=1, offset=2)],
            "second",
        )
    return settings


@pytest.fixture
def analyst(stored: Settings) -> Iterator[Client]:
    with closing(open_analyst(stored.clickhouse)) as client:
        yield client


def ask_by_http(clickhouse: ClickHouseSettings, question: str) -> list[dict[str, str]]:
    parameters = {
        "database": clickhouse.database,
        "query": f"{question} FORMAT JSONEachRow",
        "output_format_json_quote_decimals": "1",
    }
    request = urllib.request.Request(
        f"{clickhouse.url}/?{urllib.parse.urlencode(parameters)}",
        headers={
            "X-ClickHouse-User": clickhouse.analyst_user,
            "X-ClickHouse-Key": clickhouse.analyst_password.get_secret_value(),
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]


def test_three_clients_and_two_protocols_give_one_answer(stored: Settings, analyst: Client) -> None:
    clickhouse = stored.clickhouse
    native = clickhouse_driver.Client(
        "127.0.0.1",
        port=clickhouse.native_port,
        user=clickhouse.analyst_user,
        password=clickhouse.analyst_password.get_secret_value(),
        database=clickhouse.database,
    )
    expected = [("a", Decimal("4.5")), ("b", Decimal("1.5"))]
    assert list(analyst.query(QUESTION).result_rows) == expected
    assert native.execute(QUESTION) == expected
    assert [
        (row["account_id"], Decimal(row["credits"])) for row in ask_by_http(clickhouse, QUESTION)
    ] == expected
    native.disconnect()


def test_an_analyst_cannot_change_a_record(analyst: Client) -> None:
    for forbidden in (
        "INSERT INTO metered_records (account_id) VALUES ('x')",
        "ALTER TABLE ledger_entries DELETE WHERE 1",
        "TRUNCATE TABLE usage_daily",
        "DROP VIEW metered_records_v1",
        "OPTIMIZE TABLE account_balances",
        "SYSTEM REFRESH VIEW usage_daily_settled_mv",
    ):
        with pytest.raises(DatabaseError, match=r"ACCESS_DENIED|READONLY"):
            analyst.command(forbidden)


def test_a_block_that_comes_twice_is_in_the_tables_and_in_the_rollup_once(
    stored: Settings, analyst: Client
) -> None:
    with closing(open_client(stored.clickhouse)) as owner:
        store(owner, charged("a", partition=0, offsets=range(3)), "first")
    rolled_up = "SELECT sum(records), sum(credits) FROM usage_daily_v1 WHERE outcome = 'metered'"
    assert list(analyst.query(rolled_up).result_rows) == [(4, Decimal("6.0"))]
    assert analyst.query("SELECT count() FROM metered_records").result_rows[0] == (5,)


def test_the_settled_rollup_is_right_where_the_live_one_is_not(stored: Settings, analyst: Client) -> None:
    with closing(open_client(stored.clickhouse)) as owner:
        # The same rows under another token: what must never happen, and did.
        store(owner, charged("a", partition=0, offsets=range(3)), "cut anew")
        owner.command("SYSTEM REFRESH VIEW usage_daily_settled_mv")
        owner.command("SYSTEM WAIT VIEW usage_daily_settled_mv")
    sums = "SELECT sum(records), sum(credits), sum(images) FROM {} WHERE account_id = 'a'"
    assert analyst.query(sums.format("usage_daily_v1")).result_rows[0] == (6, Decimal(9), 6)
    assert analyst.query(sums.format("usage_daily_settled_v1")).result_rows[0] == (3, Decimal("4.5"), 3)
    assert analyst.query(sums.format("metered_records_v1").replace("sum(records)", "count()")).result_rows[
        0
    ] == (3, Decimal("4.5"), 3)


def test_the_newest_balance_wins_in_whatever_order_it_comes(stored: Settings, analyst: Client) -> None:
    with closing(open_client(stored.clickhouse)) as owner:
        store(owner, charged("a", partition=0, offsets=range(1)), "an older one, later")
    found = balance(analyst, "a")
    assert found is not None
    assert (found["posted"], found["entry_seq"]) == ("98.5", 3)
    assert found["grants"][0]["remaining"] == "98.5"
    assert found["grants"][0]["expires_at"] is None
    assert balance(analyst, "nobody") is None


def test_a_closed_period_and_what_is_set_aside_can_be_read(stored: Settings, analyst: Client) -> None:
    with closing(open_client(stored.clickhouse)) as owner:
        written = statement("a", partition=0, offset=3)
        for token in ("a period", "the same row cut anew"):
            store(owner, [written], token)
        (there, *_) = Warehouse(owner).rows(STATEMENTS, 0, since=0, before=100)
    record = orjson.loads(written.value)
    assert list(altered(STATEMENTS, STATEMENTS.row(record), there)) == []
    (told,) = newest_statements(analyst, "a", 10)
    assert told["overage_returns"] == record["overage_returns"] != []
    (period,) = analyst.query("SELECT * FROM account_statements_v1").named_results()
    added = period["granted"] + period["overage"] + period["reversed"]
    moved = added - period["used"] - period["expired"] - period["voided"] - period["overage_returned"]
    assert period["opening"] + moved == period["closing"] == Decimal("98.5")
    (newest,) = analyst.query(
        "SELECT next_plan, status, held, holds.hold_id, period_used FROM account_balances_v1 WHERE account_id = 'a'"
    ).result_rows
    assert newest == ("free", "open", Decimal(8), ["h"], Decimal("1.5"))


def test_usage_counts_each_outcome_and_only_what_was_charged(analyst: Client) -> None:
    assert usage(analyst, ["b"], by="service") == [
        {"service": "upscaling", "metered": 1, "denied": 0, "duplicates": 1, "images": 1, "credits": "1.5"}
    ]
    assert usage(analyst, ["b"], by="day", until="2020-01-01T00:00:00Z") == []


def test_an_event_is_explained_by_its_records_its_entry_and_its_dead_letter(analyst: Client) -> None:
    found = explain(analyst, "event-1-0", account="b")
    assert [record["outcome"] for record in found.metered] == ["metered", "duplicate"]
    assert found.metered[0]["receipt"]["credits_per_image"] == "1.5"
    assert found.metered[1]["receipt"] is None
    (entry,) = found.entries_of(found.metered[0])
    assert found.entries_of(found.metered[1]) == []
    assert entry["credits"] == "-1.5"
    assert explain(analyst, "event-1-2").dead_letters[0]["reason"] == "malformed_json"
    assert explain(analyst, "event-1-0", account="a").is_empty()
    assert explain(analyst, "'; DROP TABLE metered_records; --").is_empty()


def test_entries_come_newest_first_with_their_shares(analyst: Client) -> None:
    entries = newest_entries(analyst, "a", 2)
    assert [entry["entry_seq"] for entry in entries] == [3, 2]
    assert entries[0]["grants"] == [{"grant_id": "g", "credits": "1.5"}]


def test_a_month_of_one_account_reads_a_part_of_the_table(analyst: Client) -> None:
    plan = analyst.query(
        "EXPLAIN indexes = 1 SELECT sum(credits) FROM metered_records_v1 WHERE account_id = 'a' "
        "AND accepted_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')",
        parameters={"from": NOW_MS - 1},
    )
    text = "\n".join(line for (line,) in plan.result_rows)
    assert "PrimaryKey" in text
    assert "account_id" in text.split("PrimaryKey")[1]
    assert "Partition" in text
