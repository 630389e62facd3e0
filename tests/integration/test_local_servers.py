"""The embedded servers are real: transactions, both ClickHouse protocols, an analyst who only reads."""

import urllib.error
from collections.abc import Callable

import clickhouse_driver
import pytest

from pipeline import kafka
from pipeline.settings import ClickHouseSettings, Settings
from tests import stack

pytestmark = pytest.mark.integration


def as_analyst(clickhouse: ClickHouseSettings) -> ClickHouseSettings:
    return clickhouse.model_copy(
        update={"user": clickhouse.analyst_user, "password": clickhouse.analyst_password}
    )


def test_a_transaction_commits_and_a_read_committed_consumer_reads_it(settings: Settings) -> None:
    topic = kafka.topic_name(settings.kafka, "events")
    admin = kafka.admin(settings.kafka)
    admin.create_topics([kafka.NewTopic(topic, 1, 1)])[topic].result(20)
    producer = kafka.producer(settings.kafka, transactional_id="writer")
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, value=b"one", key=b"a")
    producer.commit_transaction(20)

    consumer = kafka.consumer(settings.kafka)
    consumer.assign([kafka.TopicPartition(topic, 0, 0)])
    message = stack.wait_until("the committed record", lambda: consumer.poll(0.2))
    consumer.close()

    assert (message.key(), message.value()) == (b"a", b"one")


def test_an_unknown_topic_is_an_error_and_not_a_new_topic(settings: Settings) -> None:
    topic = kafka.topic_name(settings.kafka, "never-made")
    admin = kafka.admin(settings.kafka)

    assert admin.list_topics(topic, timeout=10).topics[topic].error is not None
    assert topic not in admin.list_topics(timeout=10).topics


def test_http_and_native_clients_see_one_server(settings: Settings) -> None:
    clickhouse = settings.clickhouse
    stack.execute(clickhouse, f"CREATE TABLE {clickhouse.database}.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    stack.execute(clickhouse, f"INSERT INTO {clickhouse.database}.t VALUES (1), (2)")
    native = clickhouse_driver.Client(
        "127.0.0.1",
        port=clickhouse.native_port,
        user=clickhouse.analyst_user,
        password=clickhouse.analyst_password.get_secret_value(),
    )

    assert native.execute(f"SELECT sum(a) FROM {clickhouse.database}.t") == [(3,)]
    native.disconnect()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {db}.t VALUES (9)",
        "CREATE TABLE {db}.mine (a UInt8) ENGINE = Memory",
        "DROP TABLE {db}.t",
        "ALTER TABLE {db}.t DELETE WHERE 1",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM remote('127.0.0.1', 'system.one')",
        "SELECT * FROM executable('id', 'LineAsString', 'a String')",
        "SELECT * FROM s3('http://localhost:1/bucket/key', 'LineAsString')",
        "SELECT * FROM system.users",
        "SELECT * FROM hidden.t",
        "SELECT 1 SETTINGS max_execution_time = 3600",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1 SETTINGS max_memory_usage = 0",
        "SYSTEM SHUTDOWN",
    ],
)
def test_the_analyst_cannot(settings: Settings, statement: str) -> None:
    clickhouse = settings.clickhouse
    stack.execute(clickhouse, "CREATE DATABASE IF NOT EXISTS hidden")
    for database in (clickhouse.database, "hidden"):
        stack.execute(clickhouse, f"CREATE TABLE IF NOT EXISTS {database}.t (a UInt8) ENGINE = Memory")

    refusal = refused(lambda: stack.execute(as_analyst(clickhouse), statement.format(db=clickhouse.database)))

    assert any(word in refusal for word in ("ACCESS_DENIED", "READONLY", "SETTING_CONSTRAINT_VIOLATION"))


def test_default_is_locked_out(clickhouse: ClickHouseSettings) -> None:
    nobody = clickhouse.model_copy(update={"user": "default", "password": type(clickhouse.password)("")})

    assert "QUOTA_EXCEEDED" in refused(lambda: stack.execute(nobody, "SHOW DATABASES"))


def refused(attempt: Callable[[], object]) -> str:
    with pytest.raises(urllib.error.HTTPError) as error:
        attempt()
    return error.value.read().decode()
