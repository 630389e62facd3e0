"""Topics on a real broker: made as stated, checked, never changed."""

from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.admin.topics import TopicsDifferError, check_topics, ensure_topics, expected_topics
from pipeline.kafka import NewTopic, admin, topic_name
from pipeline.settings import KafkaSettings, Settings
from schemas.topics import ACCOUNT_EVENTS, IDENTITIES, METERED_RECORDS, SINK_PLANS, changelog

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(kafka: KafkaSettings, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka=kafka.model_copy(update={"topic_prefix": f"p{uuid4().hex[:10]}."}))


def create(settings: Settings, name: str, partitions: int, **changed: str) -> str:
    """One topic as it should be, but for what is changed."""
    topic = topic_name(settings.kafka, name)
    config = next(each.config for each in expected_topics(settings) if each.name == topic)
    changes = {setting.replace("_", "."): value for setting, value in changed.items()}
    client = admin(settings.kafka)
    client.create_topics([NewTopic(topic, partitions, 1, config=config | changes)])[topic].result(30)
    return topic


def test_missing_topics_are_created_and_then_found_right(deployment: Settings) -> None:
    assert {each.setting for each in check_topics(deployment)} == {"topic"}
    assert len(ensure_topics(deployment)) == len(expected_topics(deployment))
    assert check_topics(deployment) == []
    assert ensure_topics(deployment) == []


@pytest.mark.parametrize(
    ("name", "changed", "setting"),
    [
        (ACCOUNT_EVENTS, {"message_timestamp_type": "CreateTime"}, "message.timestamp.type"),
        (ACCOUNT_EVENTS, {"retention_ms": "86400000"}, "retention.ms"),
        (ACCOUNT_EVENTS, {"retention_bytes": "1000000"}, "retention.bytes"),
        (changelog("creditstream"), {"cleanup_policy": "delete"}, "cleanup.policy"),
        (changelog("creditstream"), {"min_compaction_lag_ms": "0"}, "min.compaction.lag.ms"),
        (changelog("creditstream"), {"delete_retention_ms": "60000"}, "delete.retention.ms"),
        (SINK_PLANS, {"cleanup_policy": "delete"}, "cleanup.policy"),
        (IDENTITIES, {"retention_ms": "259200000"}, "retention.ms"),  # The hot window alone.
        (METERED_RECORDS, {"message_timestamp_type": "LogAppendTime"}, "message.timestamp.type"),
        (IDENTITIES, {"max_message_bytes": "1000"}, "max.message.bytes"),
    ],
)
def test_a_topic_that_would_lose_data_is_named_with_the_remedy_and_left_as_it_is(
    deployment: Settings, name: str, changed: dict[str, str], setting: str
) -> None:
    topic = create(deployment, name, deployment.kafka.partitions, **changed)
    with pytest.raises(TopicsDifferError) as caught:
        ensure_topics(deployment)
    (difference,) = caught.value.differences
    assert (difference.topic, difference.setting) == (topic, setting)
    assert difference.found in changed.values()
    assert "Remedy: kafka-configs --alter" in str(difference)
    assert check_topics(deployment) == [difference]


def test_another_partition_count_is_refused(deployment: Settings) -> None:
    create(deployment, ACCOUNT_EVENTS, deployment.kafka.partitions + 1)
    with pytest.raises(TopicsDifferError, match="expected partitions 4, found 5"):
        ensure_topics(deployment)


def test_fewer_copies_than_asked_for_are_refused_of_every_topic(deployment: Settings) -> None:
    ensure_topics(deployment)
    asked = deployment.model_copy(
        update={"kafka": deployment.kafka.model_copy(update={"replication_factor": 3})}
    )
    with pytest.raises(TopicsDifferError) as caught:
        ensure_topics(asked)
    assert {each.topic for each in caught.value.differences} == {
        each.name for each in expected_topics(deployment)
    }
    told = {(each.setting, each.expected, each.found) for each in caught.value.differences}
    assert told == {("replication factor", "at least 3", "1")}
    assert "Remedy: reassign the partitions to more brokers" in str(caught.value)


def test_longer_and_unlimited_retention_is_welcome(deployment: Settings) -> None:
    create(deployment, ACCOUNT_EVENTS, deployment.kafka.partitions, retention_ms="-1")
    ensure_topics(deployment)
