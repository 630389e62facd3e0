"""A log whose first records are older than it is.

Accepted instants are the broker's clock. Where the log is empty yet, they can be the producers' for as long as
`producers_dates` lasts; from then on nothing else than the broker's clock counts again.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from pipeline.kafka import (
    AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]  (confluent exports it, its stubs do not)
    ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
    admin,
    topic_name,
)
from pipeline.settings import KafkaSettings
from schemas.topics import ACCOUNT_EVENTS

ASK_SECONDS_MAX: Final = 15
POLL_SECONDS: Final = 0.05
_SETTING: Final = "message.timestamp.type"


@contextmanager
def producers_dates(kafka: KafkaSettings) -> Generator[None, None, None]:
    """Records of the input log published inside this carry the timestamps that their producers give them."""
    _set_timestamps(kafka, "CreateTime")
    try:
        yield
    finally:
        _set_timestamps(kafka, "LogAppendTime")


def _set_timestamps(kafka: KafkaSettings, kind: str) -> None:
    name = topic_name(kafka, ACCOUNT_EVENTS)
    entry = ConfigEntry(_SETTING, kind, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    client = admin(kafka)  # Ends its requests when it is collected.
    client.incremental_alter_configs([changed])[changed].result(ASK_SECONDS_MAX)
    asked = ConfigResource(ResourceType.TOPIC, name)
    until = time.monotonic() + ASK_SECONDS_MAX
    while client.describe_configs([asked])[asked].result(ASK_SECONDS_MAX)[_SETTING].value != kind:
        if time.monotonic() > until:
            raise TimeoutError(f"expected {_SETTING} of {name} to be {kind} within {ASK_SECONDS_MAX} s")
        time.sleep(POLL_SECONDS)
