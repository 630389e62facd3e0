"""The input that all programs read: published once, before anything is measured, and the same bytes for everyone.

Only the input topic stays between two runs. Everything that a program writes is deleted, and each run has an app
id of its own, so that no run finds what another has left.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics, expected_topics
from pipeline.kafka import admin, producer, topic_name
from pipeline.load import CommandKey, LoadPlan, generate
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings, WorkerSettings
from schemas.topics import ACCOUNT_EVENTS
from tests.stack import wait_until
from tests.stream_workers import write_settings

KEY: Final = CommandKey(key_id="bench", secret=bytes.fromhex("be" * 32))
QUIET: Final = {"log_level": "2"}
"""That the broker is gone at the end of the bench is no news."""
SEED: Final = 3
PARTITIONS: Final = 4
QUEUE_FULL_POLL_SECONDS: Final = 0.1
FLUSH_SECONDS_MAX: Final = 60
DELETE_SECONDS_MAX: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One published input on a broker."""

    kafka: KafkaSettings
    directory: Path
    records: int
    """Commands and events; each leads to one outcome."""
    warm_up_records: int
    """The commands, which come first, and the first tenth of the events: excluded from every measurement."""

    def settings(self, app_id: str) -> Settings:
        """Of one run of one program; a child process reads them from the run's own home."""
        settings = Settings(
            home=self.directory / f"{self.kafka.topic_prefix}{app_id}",
            kafka=self.kafka,
            worker=WorkerSettings(app_id=app_id),
            command_keys={KEY.key_id: SecretStr(KEY.secret.hex())},
        )
        write_settings(settings)
        return settings


def deployment(
    directory: Path,
    name: str,
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings | None = None,
    **changes: Any,
) -> Settings:
    """Topics and tables of this name where nothing stands yet, on servers that many share; child processes read the
    settings from its home. `changes`: further settings."""
    own = {"topic_prefix": f"{name}.", "partitions": PARTITIONS, "client_options": QUIET}
    settings = Settings(
        home=directory / name,
        kafka=kafka.model_copy(update=own),
        command_key_id=KEY.key_id,
        command_keys={KEY.key_id: SecretStr(KEY.secret.hex())},
        **changes,
    )
    if clickhouse is not None:
        database = f"{clickhouse.database}_{name}".replace("-", "_")
        tables = clickhouse.model_copy(update={"database": database})
        settings = settings.model_copy(update={"clickhouse": tables})
        migrate(settings)
    write_settings(settings)
    ensure_topics(settings)
    return settings


def publish(
    bootstrap_servers: str, directory: Path, *, name: str, events: int, accounts: int, idle_accounts: int = 0
) -> Workload:
    """Open the accounts, grant what they will use, and append their usage."""
    kafka = KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        topic_prefix=f"{name}.",
        partitions=PARTITIONS,
        client_options=QUIET,
    )
    workload = Workload(kafka=kafka, directory=directory, records=0, warm_up_records=0)
    ensure_topics(workload.settings("publisher"))
    plan = LoadPlan(
        seed=SEED, events=events, accounts=accounts, base_ms=time.time_ns() // 1_000_000, dry_share=0.0,
        hold_share=0.0, change_share=0.0, idle_accounts=idle_accounts,
    )  # fmt: skip
    publisher, topic, records = producer(kafka), topic_name(kafka, ACCOUNT_EVENTS), 0
    for record in generate(plan, KEY):
        while True:
            try:
                publisher.produce(topic, record.value, record.key, headers=list(record.headers))
                break
            except BufferError:
                publisher.poll(QUEUE_FULL_POLL_SECONDS)
        records += 1
    assert publisher.flush(FLUSH_SECONDS_MAX) == 0, "the input could not be published"
    warm_up = records - events + events // 10
    return Workload(kafka=kafka, directory=directory, records=records, warm_up_records=warm_up)


def begin_run(workload: Workload, app_id: str) -> Settings:
    """Delete what the last run wrote; fresh topics, but the same input."""
    settings = workload.settings(app_id)
    client, source = admin(settings.kafka), topic_name(settings.kafka, ACCOUNT_EVENTS)
    prefix = settings.kafka.topic_prefix

    def written() -> list[str]:
        present = client.list_topics(timeout=DELETE_SECONDS_MAX).topics
        return [name for name in present if name.startswith(prefix) and name != source]

    for deleted in client.delete_topics(written(), operation_timeout=DELETE_SECONDS_MAX).values():
        deleted.result(DELETE_SECONDS_MAX)
    wait_until("the last run's topics are gone", lambda: not written(), DELETE_SECONDS_MAX)
    assert {topic.name for topic in expected_topics(settings)} >= {source}
    ensure_topics(settings)
    return settings
