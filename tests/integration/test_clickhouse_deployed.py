"""The deployment's ClickHouse configuration, read by ClickHouse: who may do what, and how long its own logs live.

The embedded engine runs it (clickhouse-local, with the same configuration code as a server). It cannot do two things:
be without a user `default`, and listen with TLS.
"""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import copytree

import pytest
from pydantic import SecretStr

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import DatabaseError, insert_block, open_analyst, open_client
from pipeline.local.child import Program
from pipeline.local.clickhouse_server import answers_ping
from pipeline.local.ports import free_port
from pipeline.settings import ClickHouseSettings, Settings
from tests import stack
from tests.deployment import DEPLOY, made_secrets, without_our_variables
from tests.integration.sinking import charged

pytestmark = pytest.mark.integration

CONFIG = """<clickhouse>
  <http_port>{http}</http_port><tcp_port>{native}</tcp_port><users_config>users.xml</users_config>
</clickhouse>"""
LOOPBACK_ONLY = """<clickhouse><listen_host replace="replace">127.0.0.1</listen_host></clickhouse>"""
USERS = """<clickhouse>
  <profiles><default/></profiles><quotas><default/></quotas>
  <users><default><no_password/><networks><ip>127.0.0.1</ip></networks></default></users>
</clickhouse>"""
BOOT = """<clickhouse><users><default><no_password/><networks><ip>127.0.0.1</ip></networks>
  <profile>default</profile><quota>default</quota></default></users></clickhouse>"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A server with `deploy/clickhouse` as compose mounts it, migrated by the owner."""
    directory = tmp_path_factory.mktemp("clickhouse")
    secrets, http, native = made_secrets(directory), free_port(), free_port()
    run = directory / "run"
    for folder in ("config.d", "users.d"):
        copytree(DEPLOY / "clickhouse" / folder, run / folder)
    (directory / "data" / "metadata").mkdir(parents=True)
    (run / "config.xml").write_text(CONFIG.format(http=http, native=native))
    (run / "users.xml").write_text(USERS)
    (run / "config.d" / "zz_test.xml").write_text(LOOPBACK_ONLY)
    (run / "users.d" / "zz_test.xml").write_text(BOOT)
    program = Program(
        name="clickhouse",
        stage=1,
        command=(sys.executable, "-m", "pipeline.local.clickhouse_server", str(directory)),
        environment={**without_our_variables(), **secrets},
        directory=directory,
        healthy=lambda: answers_ping(http),
        ports={"http": http},
        stop_seconds_max=15,
    )
    with (directory / "lock").open("w") as lock, stack.running(program, directory, lock, program.healthy):
        settings = Settings(
            home=directory,
            clickhouse=ClickHouseSettings(
                url=f"http://127.0.0.1:{http}",
                native_port=native,
                user="owner",
                password=SecretStr(secrets["CLICKHOUSE_OWNER_PASSWORD"]),
                analyst_password=SecretStr(secrets["CLICKHOUSE_ANALYST_PASSWORD"]),
            ),
        )
        migrate(settings)
        yield settings.model_copy(update={"home": Path(directory)})


def as_user(settings: Settings, name: str) -> ClickHouseSettings:
    secrets = dict(
        line.split("=", 1) for line in (settings.home / "env").read_text().splitlines() if "PASSWORD" in line
    )
    password = SecretStr(secrets[f"CLICKHOUSE_{name.upper()}_PASSWORD"])
    return settings.clickhouse.model_copy(
        update={"user": name, "password": password, "analyst_user": name, "analyst_password": password}
    )


def test_the_owner_alone_migrates_and_a_second_time_changes_nothing(deployed: Settings) -> None:
    assert migrate(deployed) == []
    for name in ("sink", "reader", "analyst"):
        with closing(open_client(as_user(deployed, name))) as client, pytest.raises(DatabaseError):
            client.command("CREATE TABLE metering.mine (a UInt8) ENGINE = MergeTree ORDER BY a")


def test_the_sink_adds_rows_that_reach_the_rollups_and_changes_none(deployed: Settings) -> None:
    records = charged("a", partition=0, offsets=range(3))
    rows = b"\n".join(each.value for each in records if each.topic.endswith("metered-records.v1"))
    with closing(open_client(as_user(deployed, "sink"))) as client:
        insert_block(client, "metered_records", rows, token="once")
        for forbidden in ("TRUNCATE TABLE metered_records", "ALTER TABLE metered_records DELETE WHERE 1"):
            with pytest.raises(DatabaseError, match="ACCESS_DENIED"):
                client.command(forbidden)
    with closing(open_analyst(as_user(deployed, "analyst"))) as analyst:
        assert analyst.query("SELECT sum(records) FROM usage_daily_v1").result_rows == [(3,)]


@pytest.mark.parametrize("name", ["reader", "analyst"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO metering.metered_records (account_id) VALUES ('x')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SELECT 1 SETTINGS max_execution_time = 3600",
        "SYSTEM SHUTDOWN",
    ],
)
def test_readers_cannot(deployed: Settings, name: str, statement: str) -> None:
    with closing(open_analyst(as_user(deployed, name))) as client, pytest.raises(DatabaseError) as refused:
        client.command(statement)
    assert any(word in str(refused.value) for word in ("ACCESS_DENIED", "READONLY", "CONSTRAINT"))


def test_clickhouses_tables_about_itself_forget_after_days(deployed: Settings) -> None:
    default = deployed.clickhouse.model_copy(update={"user": "default", "password": SecretStr("")})
    stack.execute(default, "SYSTEM FLUSH LOGS query_log")
    question = "SELECT name FROM system.tables WHERE database = 'system' AND engine = 'MergeTree'"
    stored = set(stack.execute(default, question).split())
    assert "query_log" in stored
    assert set(stack.execute(default, f"{question} AND engine_full LIKE '%TTL%'").split()) == stored
