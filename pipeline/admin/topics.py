"""Makes the broker's topics equal to `schemas/topics.py`, or says how they differ.

A topic that exists is never changed here: every difference has cost someone data before, so a person decides.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipeline.kafka import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]  (confluent exports it, its stubs do not)
    KafkaError,
    KafkaException,
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    TopicPartition,
    admin,
    list_offsets,
    topic_name,
)
from pipeline.settings import Settings
from schemas.topics import Topic, topics

REQUEST_SECONDS_MAX: Final = 30
"""For one question to the broker."""
LISTED_POLL_SECONDS: Final = 0.02
_NO_LEADER_YET: Final = frozenset({
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH,
})  # fmt: skip

_AT_LEAST: Final = frozenset(
    {"retention.ms", "max.message.bytes", "min.compaction.lag.ms", "delete.retention.ms", "retention.bytes"}
)
_UNLIMITED: Final = -1
"""Kafka's way to say "no limit" for a retention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDifference:
    """One way in which a topic on the broker is not what the programs rely on."""

    topic: str
    setting: str
    expected: str
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"topic {self.topic}: expected {self.setting} {self.expected}, found {self.found}. Remedy: {self.remedy}"


class TopicsDifferError(Exception):
    """The broker's topics would lose data or mix accounts; nothing may run on them."""

    def __init__(self, differences: list[TopicDifference]) -> None:
        super().__init__("\n".join(map(str, differences)))
        self.differences = differences


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and check the others. Returns the names of the created."""
    client = admin(settings.kafka)
    wanted = expected_topics(settings)
    present = client.list_topics(timeout=REQUEST_SECONDS_MAX).topics
    missing = [topic for topic in wanted if topic.name not in present]
    _create(client, settings, missing)
    _wait_until_listed(client, {topic.name for topic in missing})
    _wait_until_led(client, settings, missing)
    require_topics(settings)
    return [topic.name for topic in missing]


def require_topics(settings: Settings) -> None:
    """Raise `TopicsDifferError` unless every topic is there and as it must be."""
    differences = check_topics(settings)
    if differences:
        raise TopicsDifferError(differences)


def check_topics(settings: Settings) -> list[TopicDifference]:
    """How the broker's topics differ from what `schemas/topics.py` says, in the order of that file."""
    client = admin(settings.kafka)
    present = client.list_topics(timeout=REQUEST_SECONDS_MAX).topics
    wanted = expected_topics(settings)
    configs = _configs(client, [topic.name for topic in wanted if topic.name in present])
    return [
        difference
        for topic in wanted
        for difference in (
            _compare(
                topic,
                settings,
                [len(each.replicas) for each in present[topic.name].partitions.values()],
                configs,
            )
            if topic.name in present
            else [_missing(topic)]
        )
    ]


def expected_topics(settings: Settings) -> list[Topic]:
    """The topics of this deployment under their names on the cluster, with every setting that is checked."""
    return [
        Topic(
            name=topic_name(settings.kafka, topic.name),
            cleanup=topic.cleanup,
            retention_ms=topic.retention_ms,
            config={
                "cleanup.policy": topic.cleanup,
                **_retention(topic),
                **_timestamp_type(),
                **topic.config,
            },
        )
        for topic in topics(settings.worker.app_id, hot_window_hours=settings.rules.hot_window_hours)
    ]


def _retention(topic: Topic) -> dict[str, str]:
    if topic.retention_ms is None:
        return {}
    # A limit in bytes would cut the log earlier than the days that rebuild, audit and deduplication count on.
    return {"retention.ms": str(topic.retention_ms), "retention.bytes": str(_UNLIMITED)}


def _timestamp_type() -> dict[str, str]:
    return {"message.timestamp.type": "CreateTime"}


def _create(client: AdminClient, settings: Settings, missing: list[Topic]) -> None:
    if not missing:
        return
    created = client.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=settings.kafka.partitions,
                replication_factor=settings.kafka.replication_factor,
                config=topic.config,
            )
            for topic in missing
        ],
        operation_timeout=REQUEST_SECONDS_MAX,
    )
    for future in created.values():
        try:
            future.result(timeout=REQUEST_SECONDS_MAX)
        except KafkaException as error:
            # Another program created it in the same moment: the check that follows judges it like any other.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _wait_until_listed(client: AdminClient, names: set[str]) -> None:
    """The controller creates a topic a moment before the brokers know it and can be asked about it."""
    until = time.monotonic() + REQUEST_SECONDS_MAX
    while unlisted := names - client.list_topics(timeout=REQUEST_SECONDS_MAX).topics.keys():
        if time.monotonic() > until:
            raise TimeoutError(
                f"expected the broker to list the topics {sorted(unlisted)} within {REQUEST_SECONDS_MAX} s of "
                "creating them"
            )
        time.sleep(LISTED_POLL_SECONDS)


def _wait_until_led(client: AdminClient, settings: Settings, created: list[Topic]) -> None:
    """A broker lists a topic before it leads its partitions: whoever asks or publishes at once is sent away."""
    places = [
        TopicPartition(topic.name, number) for topic in created for number in range(settings.kafka.partitions)
    ]
    until = time.monotonic() + REQUEST_SECONDS_MAX
    while places:
        try:
            list_offsets(client, places, "latest", timeout_seconds=REQUEST_SECONDS_MAX)
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > until:
                raise
            time.sleep(LISTED_POLL_SECONDS)
        else:
            return


def _configs(client: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    asked = client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name) for name in names])
    return {
        resource.name: {
            name: str(entry.value) for name, entry in future.result(timeout=REQUEST_SECONDS_MAX).items()
        }
        for resource, future in asked.items()
    }


def _missing(topic: Topic) -> TopicDifference:
    return TopicDifference(
        topic=topic.name,
        setting="topic",
        expected="to exist",
        found="none",
        remedy="create it with `creditstream topics`, or let `creditstream up` do so",
    )


def _compare(
    topic: Topic, settings: Settings, replicas: list[int], configs: dict[str, dict[str, str]]
) -> Iterator[TopicDifference]:
    if len(replicas) != settings.kafka.partitions:
        yield TopicDifference(
            topic=topic.name,
            setting="partitions",
            expected=str(settings.kafka.partitions),
            found=str(len(replicas)),
            remedy="set CREDITSTREAM_KAFKA__PARTITIONS to the found number if all topics have it; "
            "a partition count never changes under a running app",
        )
    if min(replicas) < settings.kafka.replication_factor:
        yield TopicDifference(
            topic=topic.name,
            setting="replication factor",
            expected=f"at least {settings.kafka.replication_factor}",
            found=str(min(replicas)),
            remedy="reassign the partitions to more brokers (kafka-reassign-partitions)",
        )
    for setting, expected in topic.config.items():
        found = configs[topic.name].get(setting, "unset")
        if not _suffices(setting, expected, found):
            yield _setting_difference(topic.name, setting, expected, found)


def _suffices(setting: str, expected: str, found: str) -> bool:
    if setting not in _AT_LEAST:
        return found == expected
    if not found.lstrip("-").isdigit():
        return False
    unlimited = int(found) == _UNLIMITED and setting.startswith("retention.")
    return unlimited or (int(expected) != _UNLIMITED and int(found) >= int(expected))


def _setting_difference(topic: str, setting: str, expected: str, found: str) -> TopicDifference:
    at_least = "at least " if setting in _AT_LEAST and expected != str(_UNLIMITED) else ""
    return TopicDifference(
        topic=topic,
        setting=setting,
        expected=f"{at_least}{expected}",
        found=found,
        remedy=f"kafka-configs --alter --entity-type topics --entity-name {topic} "
        f"--add-config {setting}={expected}",
    )
