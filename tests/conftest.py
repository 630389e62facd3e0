"""Fixtures that any test may ask for: real servers, isolated settings; and Hypothesis's profiles."""

import importlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from pipeline.settings import (
    ClickHouseSettings,
    KafkaSettings,
    NotifierSettings,
    Settings,
    SinkSettings,
    WorkerSettings,
)
from tests import stack
from tests.stream_workers import QUICK

COMMAND_KEY_ID = "test-key"
COMMAND_SECRET = "5e" * 32
NOTIFICATION_KEY_ID = "test-notifications"
NOTIFICATION_SECRET = "a1" * 32

# The same examples each time: what is new comes by HYPOTHESIS_PROFILE=long, for a night. A failure prints the line that
# reproduces it.
hypothesis_settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.register_profile("brief", hypothesis_settings.get_profile("ci"), max_examples=25)
hypothesis_settings.register_profile(
    "long", hypothesis_settings.get_profile("ci"), derandomize=False, max_examples=5000
)
# What tests/property/broken_rules.py asks: the same examples each time, and only whether one of them is red.
hypothesis_settings.register_profile(
    "red",
    hypothesis_settings.get_profile("ci"),
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
hypothesis_settings.load_profile(PROFILE)


DOCKER = os.environ.get("CREDITSTREAM_TEST_BACKEND") == "docker"


def pytest_report_header() -> str:
    servers = "from images (Docker)" if DOCKER else "embedded (child processes on loopback)"
    return f"creditstream: Kafka and ClickHouse {servers}; Hypothesis {PROFILE}"


def _servers() -> ModuleType:
    return importlib.import_module("tests.stack_docker" if DOCKER else "tests.stack")


@pytest.fixture(scope="session")
def session_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for the whole session, whichever pytest-xdist worker asks."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def kafka(session_directory: Path) -> Iterator[KafkaSettings]:
    """The session's broker, without a prefix: for isolated topics take `settings.kafka`."""
    with stack.shared(session_directory / "kafka", _servers().kafka_server) as values:
        yield KafkaSettings(**values)


@pytest.fixture(scope="session")
def clickhouse(session_directory: Path) -> Iterator[ClickHouseSettings]:
    """The session's ClickHouse; its analyst reads every database named `test_…`."""
    with stack.shared(session_directory / "clickhouse", _servers().clickhouse_server) as values:
        yield ClickHouseSettings(**values)


@pytest.fixture
def settings(kafka: KafkaSettings, clickhouse: ClickHouseSettings, tmp_path: Path) -> Iterator[Settings]:
    """A deployment of its own: a topic prefix, an empty database, a state directory, a command key."""
    with own_settings(kafka, clickhouse, tmp_path) as made:
        yield made


@contextmanager
def own_settings(kafka: KafkaSettings, clickhouse: ClickHouseSettings, home: Path) -> Iterator[Settings]:
    """As the fixture `settings`, for those that live longer than one test."""
    name = uuid.uuid4().hex[:12]
    database = f"test_{name}"
    stack.execute(clickhouse, f"CREATE DATABASE {database}")
    yield Settings(
        home=home,
        kafka=kafka.model_copy(update={"topic_prefix": f"t{name}.", "partitions": 2}),
        worker=WorkerSettings(**QUICK),
        sink=SinkSettings(**QUICK),
        clickhouse=clickhouse.model_copy(update={"database": database}),
        command_key_id=COMMAND_KEY_ID,
        command_keys={COMMAND_KEY_ID: SecretStr(COMMAND_SECRET)},
        notifier=NotifierSettings(
            key_id=NOTIFICATION_KEY_ID, keys={NOTIFICATION_KEY_ID: SecretStr(NOTIFICATION_SECRET)}
        ),
    )
    stack.execute(clickhouse, f"DROP DATABASE {database}")
