"""What analysts are given works on data whose answers are known: sample questions, Grafana's boards, Parquet and Arrow.

The data is the demonstration's month, folded by the pure core and inserted as the sink does.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import Client, insert_block, open_analyst, open_client
from pipeline.client.commands import CommandKey
from pipeline.client.origin import now
from pipeline.demo.month import month
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from pipeline.sink.insert import TABLES
from tests.asked import BOARDS, SAMPLES, board_questions, expanded
from tests.builders import KEY_ID, SECRET, Partition, Record
from tests.conftest import own_settings
from tests.deployment import DEPLOY, ROOT

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def known(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A database with the month in it. Its accounts used 2183, 796 and 45 credits."""
    with own_settings(kafka, clickhouse, tmp_path_factory.mktemp("analysts")) as settings:
        migrate(settings)
        partition, at = Partition(), now()
        planned = enumerate(month("demo", CommandKey(KEY_ID, SECRET), at, dated=True))
        folded = partition.run(
            Record(offset, at - each.ago_ms, each.key, each.value) for offset, each in planned
        )
        with closing(open_client(settings.clickhouse)) as owner:
            for topic, table in TABLES.items():
                months: dict[str, list[bytes]] = {}
                for each in folded.records:
                    if each.topic == topic:
                        written = datetime.fromtimestamp(each.timestamp_ms / 1000, UTC)
                        months.setdefault(f"{written:%Y-%m}", []).append(each.value)
                for name, values in months.items():
                    insert_block(owner, table, b"\n".join(values), token=f"{topic} {name}")
            owner.command("SYSTEM REFRESH VIEW usage_daily_settled_mv")
            owner.command("SYSTEM WAIT VIEW usage_daily_settled_mv")
        yield settings


@pytest.fixture(scope="module")
def analyst(known: Settings) -> Iterator[Client]:
    with closing(open_analyst(known.clickhouse)) as client:
        yield client


def answer(client: Client, sql: str) -> list[dict[str, Any]]:
    return list(client.query(sql.strip().rstrip(";")).named_results())


# Of the shop 37 credits are left, and 117 of the 150 that it may go beyond them.
USED = {"demo-team": Decimal(2183), "demo-shop": Decimal(796), "demo-hobby": Decimal(45)}
Rows = list[dict[str, Any]]


def _pairs(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


CHECKS: dict[str, Callable[[Rows], bool]] = {
    "the fleet's month by service": lambda rows: (
        sum(row["credits"] for row in rows) == sum(USED.values())
        and sum(row["events"] for row in rows) == 586
    ),
    "credits by service and day": lambda rows: (
        sum(row["credits"] for row in rows) == sum(USED.values())
        and sum(row["events"] for row in rows) == 586
    ),
    "the largest accounts of a month, from the settled rollup that bills are made from": lambda rows: (
        _pairs(rows, "account_id", "credits") == list(USED.items())
    ),
    "usage that was denied, and what it would have cost": lambda rows: (
        _pairs(rows, "account_id", "reason", "requests", "would_have_cost")
        == [("demo-team", "plan_paused", 1, Decimal(2))]
    ),
    "how full each account is, and when it runs out at the pace of the last seven days": lambda rows: (
        _pairs(rows, "account_id", "available")
        == [("demo-hobby", Decimal(5)), ("demo-shop", Decimal(37 + 117)), ("demo-team", Decimal(317))]
        and all(row["days_left"] >= 0 for row in rows)
    ),
    "the ledger adds up, entry by entry and with the balances: no row comes back": lambda rows: rows == [],
    "where credits came from and went": lambda rows: (
        {row["account_id"]: row["credits"] for row in rows if row["kind"] == "usage"}
        == {account: -used for account, used in USED.items()}
    ),
    "what went beyond the grants, entered as overage": lambda rows: (
        sum(row["overage"] for row in rows) == 33 and {row["account_id"] for row in rows} == {"demo-shop"}
    ),
    "which rule decided the price": lambda rows: len(rows) >= 6 and all(row["rule"] for row in rows),
    "closed periods": lambda rows: (
        _pairs(rows, "account_id", "plan", "used", "closing")
        == [("demo-team", "free", Decimal(50), Decimal(0))]
    ),
    "alerts in their order": lambda rows: len(rows) == 8 and rows[0]["kind"] == "threshold",
    "what could not be metered, and why": lambda rows: (
        {row["reason"]: row["records"] for row in rows}
        == {"late": 3, "too_late": 1, "conflict": 1, "unknown_account": 1, "invalid_data": 1}
    ),
    "resends that were recognised, by the service that sent them": lambda rows: (
        rows == [{"source": "/services/demo", "duplicates": 1}]
    ),
}


def test_every_sample_question_has_a_known_answer() -> None:
    assert SAMPLES.keys() == CHECKS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_a_sample_question_is_answered_rightly(analyst: Client, name: str) -> None:
    rows = answer(analyst, SAMPLES[name])
    assert CHECKS[name](rows), rows


@pytest.mark.parametrize(
    ("place", "sql"), list(board_questions()), ids=[place for place, _ in board_questions()]
)
def test_a_boards_query_has_rows(analyst: Client, place: str, sql: str) -> None:
    sql = expanded(sql, list(USED), days=31, interval_seconds=86_400)
    assert "$" not in sql, place
    rows = answer(analyst, sql)
    assert rows
    if place == "credits: Credits used":
        assert rows == [{"credits": sum(USED.values())}]
    if place == "credits: Overage":
        assert rows == [{"overage": Decimal(33)}]


def test_boards_name_provisioned_sources() -> None:
    provisioned = (DEPLOY / "grafana/provisioning/datasources/datasources.yml").read_text()
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            if panel["type"] == "row":
                continue
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(f"uid: {each['uid']}\n" in provisioned for each in sources)


def commands_in_the_readme() -> list[str]:
    return re.findall(
        r"^\$ (curl .*\n    .*FORMAT (?:Parquet|Arrow)\")$", (ROOT / "README.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize("command", commands_in_the_readme())
def test_parquet_and_arrow_come_as_the_readme_says(known: Settings, command: str, tmp_path: Path) -> None:
    clickhouse = known.clickhouse
    local = command.replace("http://localhost:8123", clickhouse.url).replace(
        "database=metering", f"database={clickhouse.database}"
    )
    variables = {"PASSWORD": clickhouse.analyst_password.get_secret_value(), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-c", local], check=True, cwd=tmp_path, env=variables, timeout=60)
    [file] = tmp_path.iterdir()
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        assert sum(table["credits"].to_pylist()) == sum(USED.values())
    else:
        with pa.ipc.open_file(file) as reader:
            assert sum(reader.read_all()["credits"].to_pylist()) == sum(USED.values())


def test_the_readme_shows_both_formats() -> None:
    assert [shlex.split(each)[0] for each in commands_in_the_readme()] == ["curl", "curl"]
