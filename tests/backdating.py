"""A log whose first records are older than it is: so that a period of a month ends within seconds.

The topic keeps the broker's append times; while `producers_date` lasts, and no longer, it keeps the producers'.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs do not say that it re-exports
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from pipeline.kafka import admin, topic_name
from pipeline.settings import KafkaSettings
from schemas.topics import ACCOUNT_EVENTS

ASK_SECONDS_MAX: Final = 15


@contextmanager
def producers_date(kafka: KafkaSettings) -> Generator[None, None, None]:
    """Records of the input log published inside this carry the timestamps that their producers give them."""
    _set_timestamps(kafka, "CreateTime")
    try:
        yield
    finally:
        _set_timestamps(kafka, "LogAppendTime")


def _set_timestamps(kafka: KafkaSettings, kind: str) -> None:
    entry = ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, topic_name(kafka, ACCOUNT_EVENTS), incremental_configs=[entry])
    client = admin(kafka)  # Ends its requests when it is collected.
    client.incremental_alter_configs([topic])[topic].result(ASK_SECONDS_MAX)


def opening_for_boundary(at: datetime) -> datetime:
    """The newest opening whose months end at this instant: the 31st has none in a month of thirty days."""
    opened = at
    while True:
        last_of_previous = opened.replace(day=1) - timedelta(days=1)
        opened = last_of_previous.replace(day=min(at.day, last_of_previous.day))
        if opened.day == at.day:
            return opened
