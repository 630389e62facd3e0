"""A ClickHouse with the configuration and the users of `deploy/clickhouse`, as compose mounts them. For tests."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import IO

from pydantic import SecretStr

from pipeline.local.child import Program
from pipeline.local.clickhouse_server import answers_ping
from pipeline.local.ports import free_port
from pipeline.settings import ClickHouseSettings
from tests import stack
from tests.deployment import DEPLOY, made_secrets, without_our_variables

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedClickHouse:
    """The server, and the passwords that `deploy/secrets.sh` made."""

    http_port: int
    native_port: int
    secrets: dict[str, str]

    def settings(self, user: str) -> ClickHouseSettings:
        """For a process of this user, whichever of the two names it connects by."""
        password = SecretStr(self.secrets[f"CLICKHOUSE_{user.upper()}_PASSWORD"])
        return ClickHouseSettings(
            url=f"http://127.0.0.1:{self.http_port}",
            native_port=self.native_port,
            user=user,
            password=password,
            analyst_user=user,
            analyst_password=password,
        )


@contextmanager
def deployed_clickhouse(directory: Path, lock: IO[str]) -> Generator[DeployedClickHouse, None, None]:
    """An empty one."""
    server = DeployedClickHouse(
        http_port=free_port(), native_port=free_port(), secrets=made_secrets(directory)
    )
    run = directory / "run"
    for folder in ("config.d", "users.d"):
        copytree(DEPLOY / "clickhouse" / folder, run / folder)
    (directory / "data" / "metadata").mkdir(parents=True)
    (run / "config.xml").write_text(CONFIG.format(http=server.http_port, native=server.native_port))
    (run / "users.xml").write_text(USERS)
    (run / "config.d" / "zz_test.xml").write_text(LOOPBACK_ONLY)
    (run / "users.d" / "zz_test.xml").write_text(BOOT)
    program = Program(
        name="clickhouse",
        stage=1,
        command=(sys.executable, "-m", "pipeline.local.clickhouse_server", str(directory)),
        environment={**without_our_variables(), **server.secrets},
        directory=directory,
        healthy=lambda: answers_ping(server.http_port),
        ports={"http": server.http_port},
        stop_seconds_max=15,
    )
    with stack.running(program, directory, lock, program.healthy):
        yield server
