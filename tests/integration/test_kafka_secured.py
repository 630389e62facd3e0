"""Each process works with its own user of Kafka (TLS, SCRAM, StandardAuthorizer, the rights of `deploy/kafka/acls.py`)
and of ClickHouse (`deploy/clickhouse`), and has no other rights."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from confluent_kafka import TopicCollection
from typer.testing import CliRunner

from pipeline import kafka
from pipeline.cli.app import app
from pipeline.client import UsageClient, image_generation
from pipeline.client.options import ClientOptions
from pipeline.local.ports import free_port
from schemas.topics import ACCOUNT_EVENTS, COMMAND_RESULTS, LEDGER_ENTRIES, changelog, topics
from tests import stack
from tests.clickhouse_deployed import DeployedClickHouse, deployed_clickhouse
from tests.conftest import COMMAND_KEY_ID, COMMAND_SECRET, NOTIFICATION_SECRET
from tests.deployment import without_our_variables
from tests.secured import OPERATIONS, Secured, acls, give_rights, secured_broker

pytestmark = pytest.mark.integration

CLICKHOUSE_USERS = {
    "setup": "owner",
    "sink": "sink",
    "late-lane": "reader",
    "gateway": "reader",
    "reconciler": "reader",
    "operator": "reader",
}
"""As in docker-compose.yml and the Kubernetes example. The others have none."""
RUNNING = ("worker", "sink", "scheduler", "late-lane", "payments", "reconciler", "notifier", "gateway")
SECONDS_MAX = 60


@dataclass
class Deployment:
    """All processes, each with its own Kafka user."""

    secured: Secured
    clickhouse: DeployedClickHouse
    home: Path
    rules: list[Any]
    gateway_port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(
        default_factory=dict[str, "subprocess.Popen[bytes]"]
    )

    def environment(self, process: str) -> dict[str, str]:
        broker = self.secured.settings(f"creditstream-{process}")
        return {
            **without_our_variables(),
            **self._clickhouse(process),
            "CREDITSTREAM_HOME": str(self.home / process),
            "CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "CREDITSTREAM_KAFKA__CLIENT_OPTIONS": json.dumps(broker.client_options),
            "CREDITSTREAM_COMMAND_KEY_ID": COMMAND_KEY_ID,
            "CREDITSTREAM_COMMAND_KEYS": json.dumps({COMMAND_KEY_ID: COMMAND_SECRET}),
            "CREDITSTREAM_NOTIFIER__KEY_ID": COMMAND_KEY_ID,
            "CREDITSTREAM_NOTIFIER__KEYS": json.dumps({COMMAND_KEY_ID: NOTIFICATION_SECRET}),
            "CREDITSTREAM_GATEWAY__PORT": str(self.gateway_port),
        }

    def _clickhouse(self, process: str) -> dict[str, str]:
        if process not in CLICKHOUSE_USERS:
            return {"CREDITSTREAM_CLICKHOUSE__URL": "http://127.0.0.1:1"}
        stored = self.clickhouse.settings(CLICKHOUSE_USERS[process])
        password = stored.password.get_secret_value()
        return {
            "CREDITSTREAM_CLICKHOUSE__URL": stored.url,
            "CREDITSTREAM_CLICKHOUSE__USER": stored.user,
            "CREDITSTREAM_CLICKHOUSE__PASSWORD": password,
            "CREDITSTREAM_CLICKHOUSE__ANALYST_USER": stored.user,
            "CREDITSTREAM_CLICKHOUSE__ANALYST_PASSWORD": password,
        }

    def run(self, process: str, *arguments: str) -> str:
        """A command, here and not in a process of its own: the user is what matters."""
        told = CliRunner().invoke(app, arguments, env=self.environment(process))
        assert told.exit_code == 0, (process, arguments, told.output, told.exception)
        return told.stdout

    def start(self, process: str) -> None:
        with (self.home / f"{process}.log").open("wb") as log:
            self.processes[process] = subprocess.Popen(
                [sys.executable, "-m", "pipeline", process],
                env=self.environment(process),
                stdout=log,
                stderr=log,
            )

    def logs(self) -> str:
        return "\n".join((self.home / f"{each}.log").read_text() for each in self.processes)

    def is_ready(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, (name, (self.home / f"{name}.log").read_text())
        try:
            return httpx.get(f"http://127.0.0.1:{self.gateway_port}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("secured")
    (directory / "clickhouse").mkdir()
    with (
        (directory / "lock").open("w") as lock,
        secured_broker(directory / "kafka", lock) as secured,
        deployed_clickhouse(directory / "clickhouse", lock) as clickhouse,
    ):
        made = Deployment(secured, clickhouse, directory, give_rights(secured, acls().Deployment()))
        made.run("setup", "setup")
        for process in RUNNING:
            made.start(process)
        try:
            stack.wait_until("all processes run", made.is_ready, SECONDS_MAX)
            yield made
        finally:
            for running in made.processes.values():
                running.send_signal(signal.SIGTERM)
            for running in made.processes.values():
                running.wait(SECONDS_MAX)


def test_every_process_does_its_work_with_its_own_rights(deployment: Deployment) -> None:
    operator = deployment.run
    operator("operator", "account", "open", "acme", "--plan", "starter")
    operator("operator", "account", "configure", "acme", "--topup", "100:credits-100:300")
    options = ClientOptions(
        source="/services/images", kafka=deployment.secured.settings("creditstream-producer")
    )
    with UsageClient(options) as client:
        used = image_generation(quality="high", width=1024, height=1024, images=75)
        for days in (0, 0, 5):
            client.record("acme", used, time=datetime.now(UTC) - timedelta(days=days)).acknowledged.result(
                SECONDS_MAX
            )

    def stored() -> bool:
        question = "SELECT count() FROM metering.metered_records_v1 WHERE outcome = 'metered'"
        return stack.execute(deployment.clickhouse.settings("analyst"), question).strip() == "3"

    stack.wait_until("all is stored, the late one by the late lane", stored, SECONDS_MAX)
    key = operator("operator", "keys", "create", "tests", "--scope", "read", "--account", "acme").strip()

    def paid() -> bool:
        url = f"http://127.0.0.1:{deployment.gateway_port}/v1/accounts/acme/balance"
        answer = httpx.get(url, headers={"authorization": f"Bearer {key}"}, timeout=5)
        return answer.status_code == 200 and Decimal(answer.json()["available"]) == 500 - 3 * 150 + 100

    stack.wait_until("the gateway knows the key, and that the pack is paid", paid, SECONDS_MAX)
    operator("operator", "notifications", "set", "acme", "--to", "owner@example.com")
    operator("operator", "notifications", "test", "acme")
    outbox = deployment.home / "notifier" / "outbox"
    stack.wait_until("the mail is written", lambda: list(outbox.glob("*.eml")), SECONDS_MAX)
    operator("operator", "reconcile")
    assert "AUTHORIZATION_FAILED" not in deployment.logs()


def test_the_broker_grants_each_user_what_the_table_says_and_nothing_else(deployment: Deployment) -> None:
    every = [topic.name for topic in topics("creditstream", hot_window_hours=1)]
    for user in {rule.user for rule in deployment.rules}:
        client = deployment.secured.admin(user)
        described = client.describe_topics(
            TopicCollection(every), include_authorized_operations=True, request_timeout=20
        )
        for topic, answer in described.items():
            expected = {
                OPERATIONS[operation]
                for rule in deployment.rules
                if rule.user == user and rule.resource == "topic" and topic in rule.names
                for operation in rule.operations
            }
            if expected:
                assert set(answer.result(20).authorized_operations) == expected, (user, topic)
            else:
                with pytest.raises(kafka.KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
                    answer.result(20)


@pytest.mark.parametrize("process", ["producer", "gateway", "scheduler", "sink", "operator"])
def test_none_but_workers_can_write_state_or_entries(deployment: Deployment, process: str) -> None:
    said: list[str] = []
    producer = kafka.producer(deployment.secured.settings(f"creditstream-{process}"), log_level="0")
    for topic in (changelog("creditstream"), LEDGER_ENTRIES):
        producer.produce(
            topic, b"minted", on_delivery=lambda error, _: said.append(error.name() if error else "")
        )
    producer.flush(20)
    assert said == ["TOPIC_AUTHORIZATION_FAILED"] * 2


def test_a_producer_reads_nothing(deployment: Deployment) -> None:
    reader = kafka.consumer(deployment.secured.settings("creditstream-producer"), log_level="0")
    reader.assign([kafka.TopicPartition(each, 0, 0) for each in (ACCOUNT_EVENTS, COMMAND_RESULTS)])
    message = stack.wait_until("a refusal", lambda: reader.poll(0.2))
    reader.close()
    error = message.error()
    assert error is not None
    assert error.name() in {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}


def test_only_a_worker_fences_a_worker(deployment: Deployment) -> None:
    for process in ("sink", "operator", "producer"):
        settings = deployment.secured.settings(f"creditstream-{process}")
        with pytest.raises(kafka.KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
            kafka.producer(settings, transactional_id="creditstream-0", log_level="0").init_transactions(20)


def test_the_commands_that_are_printed_say_what_the_table_says() -> None:
    script = Path(acls().__file__ or "")
    arguments = ["--bootstrap-server", "kafka:9093", "--command-config", "admin.properties"]
    arguments += ["--topic-prefix", "other.", "--partitions", "2"]
    printed = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=True)
    first, *lines = printed.stdout.splitlines()
    assert first == "set -eu"
    expected = acls().rules(acls().Deployment(topic_prefix="other.", partitions=2))
    for line, rule in zip(lines, expected, strict=True):
        words = shlex.split(line)
        said: dict[str, list[str]] = {option: [] for option in words if option.startswith("--")}
        for option, value in pairwise(words):
            if option.startswith("--") and not value.startswith("--"):
                said[option].append(value)
        assert words[0] == "kafka-acls.sh"
        assert said["--allow-principal"] == [f"User:{rule.user}"]
        assert tuple(said["--operation"]) == rule.operations
        assert tuple(said[f"--{rule.resource}"]) == rule.names
        assert all(name.startswith("other.") for name in rule.names)
