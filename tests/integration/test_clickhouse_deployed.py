"""The deployment's ClickHouse configuration, read by ClickHouse: who may do what, and how long its own logs live.

The embedded engine runs it (clickhouse-local, with the same configuration code as a server). It cannot do two things:
be without a user `default`, and listen with TLS.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pydantic import SecretStr

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import DatabaseError, insert_block, open_analyst, open_client
from pipeline.settings import Settings
from tests import stack
from tests.clickhouse_deployed import DeployedClickHouse, deployed_clickhouse
from tests.integration.sinking import charged

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedClickHouse]:
    """Migrated by the owner."""
    directory = tmp_path_factory.mktemp("clickhouse")
    with (directory / "lock").open("w") as lock, deployed_clickhouse(directory, lock) as server:
        migrate(Settings(home=directory, clickhouse=server.settings("owner")))
        yield server


def test_the_owner_alone_migrates_and_a_second_time_changes_nothing(deployed: DeployedClickHouse) -> None:
    assert migrate(Settings(clickhouse=deployed.settings("owner"))) == []
    for name in ("sink", "reader", "analyst"):
        with closing(open_client(deployed.settings(name))) as client, pytest.raises(DatabaseError):
            client.command("CREATE TABLE metering.mine (a UInt8) ENGINE = MergeTree ORDER BY a")


def test_the_sink_adds_rows_that_reach_the_rollups_and_changes_none(deployed: DeployedClickHouse) -> None:
    records = charged("a", partition=0, offsets=range(3))
    rows = b"\n".join(each.value for each in records if each.topic.endswith("metered-records.v1"))
    with closing(open_client(deployed.settings("sink"))) as client:
        insert_block(client, "metered_records", rows, token="once")
        for forbidden in ("TRUNCATE TABLE metered_records", "ALTER TABLE metered_records DELETE WHERE 1"):
            with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
                client.command(forbidden)
    with closing(open_analyst(deployed.settings("analyst"))) as analyst:
        assert analyst.query("SELECT sum(records) FROM usage_daily_v1").result_rows == [(3,)]


@pytest.mark.parametrize("name", ["reader", "analyst"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO metering.metered_records (account_id) VALUES ('x')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_execution_time = 3601",
        "SYSTEM SHUTDOWN",
    ],
)
def test_readers_cannot(deployed: DeployedClickHouse, name: str, statement: str) -> None:
    with closing(open_analyst(deployed.settings(name))) as client, pytest.raises(DatabaseError) as refused:
        client.command(statement)
    assert any(word in str(refused.value) for word in ("ACCESS_DENIED", "READONLY", "CONSTRAINT"))


def test_clickhouses_tables_about_itself_forget_after_days(deployed: DeployedClickHouse) -> None:
    default = deployed.settings("owner").model_copy(update={"user": "default", "password": SecretStr("")})
    stack.execute(default, "SYSTEM FLUSH LOGS query_log")
    question = "SELECT name FROM system.tables WHERE database = 'system' AND engine = 'MergeTree'"
    stored = set(stack.execute(default, question).split())
    assert "query_log" in stored
    assert set(stack.execute(default, f"{question} AND engine_full LIKE '%TTL%'").split()) == stored
