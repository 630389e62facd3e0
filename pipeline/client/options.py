"""What a service decides about its client: frozen, every field with its unit. Needs nothing but pydantic."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from pipeline.kafka_settings import KafkaSettings
from schemas.base import Source

STATE_FILE = "settings.json"
"""Of a local stack, in its state directory: which broker and gateway it runs."""
_SHARED = ("bootstrap_servers", "topic_prefix", "client_options")
"""What the stack's Kafka settings and ours have in common."""


class ClientOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    """Who says so, such as `/services/images`: with the account and the id the identity of every event."""
    kafka: KafkaSettings = KafkaSettings()

    queue_events_max: int = Field(default=10_000, ge=1)
    """Events in memory that neither Kafka nor the spool has yet. From half of it on, the spool takes over."""
    queue_bytes_max: int = Field(default=64_000_000, ge=1_000_000)
    on_full: Literal["refuse", "block", "raise"] = "refuse"
    """What `record` does when no place is left in memory: say so in the receipt, wait, or raise."""
    block_seconds_max: float = Field(default=30, gt=0)
    """How long `on_full="block"` waits; then the event is refused."""
    on_invalid: Literal["refuse", "raise"] = "refuse"
    """What `record` does with an event that would be a dead letter. In development you want `raise`."""

    spool_directory: Path | None = None
    """Where events go while Kafka is away. None: they wait in memory, and end with the process."""
    spool_bytes_max: int = Field(default=256_000_000, ge=64_000)
    """Of one process."""
    spool_after_ms: int = Field(default=1000, ge=50)
    """Events that Kafka has not acknowledged after this long go to the spool."""

    delivery_timeout_ms: int = Field(default=20_000, ge=1000)
    """Events from the spool that are not acknowledged after this long are tried again."""
    close_timeout_seconds: float = Field(default=10, ge=0)
    event_bytes_max: int = Field(default=262_144, ge=1024)
    """As the pipeline has it (`rules.event_bytes_max`); what is larger would be a dead letter."""
    window_hours: int = Field(default=72, ge=1)
    """As the pipeline has it (`rules.hot_window_hours`); events that reach Kafka later are reported as too late."""

    gateway_url: str = ""
    """Where holds are asked for, such as `https://credits.example.com`."""
    api_key: SecretStr = SecretStr("")
    gateway_timeout_seconds: float = Field(default=5, gt=0)
    """Of one try, to connect and to answer."""
    gateway_attempts_max: int = Field(default=4, ge=1, le=20)

    @classmethod
    def from_env(cls, source: str, environment: Mapping[str, str] | None = None, **given: Any) -> Self:
        """From `CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS`, `…__TOPIC_PREFIX`, `…__CLIENT_OPTIONS` (JSON),
        `CREDITSTREAM_SPOOL_DIRECTORY`, `CREDITSTREAM_GATEWAY_URL` and `CREDITSTREAM_API_KEY`.

        What is not there: from a local stack in `CREDITSTREAM_HOME`, then the defaults. `given` goes before all.
        """
        found = os.environ if environment is None else environment  # noqa: TID251  (a service has no Settings)
        named = {
            name: found[variable]
            for name in ("spool_directory", "gateway_url", "api_key")
            if (variable := f"CREDITSTREAM_{name.upper()}") in found
        }
        stack = _local_stack(found)
        kafka = {**stack.pop("kafka", {}), **_kafka_of(found)}
        return cls.model_validate({"source": source, "kafka": kafka, **stack, **named, **given})


def _kafka_of(environment: Mapping[str, str]) -> dict[str, Any]:
    values = {
        name: environment[variable]
        for name in _SHARED
        if (variable := f"CREDITSTREAM_KAFKA__{name.upper()}") in environment
    }
    if "client_options" in values:
        return {**values, "client_options": json.loads(values["client_options"])}
    return dict(values)


def _local_stack(environment: Mapping[str, str]) -> dict[str, Any]:
    path = Path(environment.get("CREDITSTREAM_HOME", ".creditstream")) / STATE_FILE
    if not path.exists():
        return {}
    said = json.loads(path.read_text())
    values: dict[str, Any] = {
        "kafka": {name: each for name, each in said["kafka"].items() if name in _SHARED}
    }
    if "port" in said.get("gateway", {}):
        values["gateway_url"] = f"http://127.0.0.1:{said['gateway']['port']}"
        values["api_key"] = said["gateway"].get("demo_key", "")
    return values
