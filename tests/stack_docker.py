"""The same servers from images, for machines with a Docker engine: `CREDITSTREAM_TEST_BACKEND=docker pytest`."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from testcontainers.core.container import DockerContainer

from pipeline.local.clickhouse_config import ANALYST_MEMORY_BYTES_MAX, ANALYST_SECONDS_MAX
from pipeline.local.clickhouse_server import answers_ping
from pipeline.local.jars import KAFKA_VERSION
from pipeline.local.kafka_server import BROKER_PROPERTIES, is_ready
from pipeline.local.ports import free_port
from pipeline.settings import ClickHouseSettings, KafkaSettings
from tests.stack import ANALYST_PASSWORD, OWNER_PASSWORD, SOON_MISSED, START_SECONDS_MAX, execute, wait_until

CLICKHOUSE_IMAGE: Final = "clickhouse/clickhouse-server:26.8"

ANALYST: Final = (
    (
        f"CREATE USER analyst IDENTIFIED BY '{ANALYST_PASSWORD}' SETTINGS readonly = 2 READONLY, "
        f"max_execution_time = {ANALYST_SECONDS_MAX} MIN 1 MAX {ANALYST_SECONDS_MAX}, "
        f"max_memory_usage = {ANALYST_MEMORY_BYTES_MAX} MIN 1 MAX {ANALYST_MEMORY_BYTES_MAX}"
    ),
    "GRANT SHOW, SELECT ON test_*.* TO analyst",
)


@contextmanager
def kafka_server(directory: Path, lock: IO[str]) -> Generator[Mapping[str, Any], None, None]:
    """A broker; yields what `KafkaSettings` needs."""
    del directory, lock
    # The same port inside and outside: the broker talks to itself by the address that clients use.
    port = free_port()
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(port, port)
    placed = {
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.quorum.voters": "1@127.0.0.1:9093",
    }
    for name, value in {**BROKER_PROPERTIES, **SOON_MISSED, **placed}.items():
        container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")
    with container:
        wait_until("Kafka is ready", lambda: is_ready(settings), START_SECONDS_MAX)
        yield {"bootstrap_servers": settings.bootstrap_servers}


@contextmanager
def clickhouse_server(directory: Path, lock: IO[str]) -> Generator[Mapping[str, Any], None, None]:
    """A ClickHouse; yields what `ClickHouseSettings` needs."""
    del directory, lock
    http, native = free_port(), free_port()
    container = DockerContainer(CLICKHOUSE_IMAGE).with_bind_ports(8123, http).with_bind_ports(9000, native)
    container.with_env("CLICKHOUSE_USER", "creditstream").with_env("CLICKHOUSE_PASSWORD", OWNER_PASSWORD)
    container.with_env("CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT", "1")
    values = {
        "url": f"http://127.0.0.1:{http}",
        "native_port": native,
        "password": OWNER_PASSWORD,
        "analyst_password": ANALYST_PASSWORD,
    }
    with container:
        wait_until("ClickHouse is ready", lambda: answers_ping(http), START_SECONDS_MAX)
        for statement in ANALYST:
            execute(ClickHouseSettings.model_validate(values), statement)
        yield values
