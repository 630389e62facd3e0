"""The AsyncAPI 3.0 document: which topic carries which messages, by what key, with what headers, for how long.

Made from `topics.py` and `shapes.py`; payloads point at the JSON Schemas beside it. Seen from the program:
it receives account events and sends the rest.
"""

from collections.abc import Mapping
from typing import Any, Final

from schemas.base import ACCOUNT_ID_PATTERN
from schemas.publication import SCHEDULE_SUBJECT
from schemas.shapes import CARRIED, COMMANDS, PUBLICATIONS, USAGE
from schemas.topics import ACCOUNT_EVENTS, Topic, topics

STRUCTURED: Final = "application/cloudevents+json"
SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_KAFKA_BINDING: Final = "0.5.0"
_WITH_DATA: Final = frozenset({*USAGE, *COMMANDS, *PUBLICATIONS})
_DESCRIPTION: Final = " ".join(
    [
        "Services publish usage events as CloudEvents 1.0, JSON in structured mode or Kafka's binary mode, keyed by",
        "account and partitioned by murmur2 (librdkafka: `partitioner=murmur2_random`).",
        "The worker answers each record of `metering.account-events.v1`, ticks aside, with exactly one metered record,",
        "command result or dead letter, which names its partition and offset.",
        "Read with `isolation.level=read_committed`.",
    ]
)


def asyncapi(schemas: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The document, from the JSON Schema of every shape and one valid example of each."""
    channels = [topic for topic in topics("", hot_window_hours=1) if topic.name in CARRIED]
    messages: dict[str, Any] = {}
    for topic in channels:
        for name in CARRIED[topic.name]:
            messages |= _messages(name, schemas[name], examples[name])
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "creditstream", "version": "1.0.0", "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {_id(topic): _channel(topic) for topic in channels},
        "operations": {_verb(topic) + _id(topic): _operation(topic) for topic in channels},
        "components": {"messages": messages},
    }


def _id(topic: Topic) -> str:
    """metering.account-events.v1 → AccountEvents."""
    return "".join(word.capitalize() for word in topic.name.split(".")[1].split("-"))


def _verb(topic: Topic) -> str:
    return "receive" if topic.name == ACCOUNT_EVENTS else "send"


def _message_names(topic: Topic) -> list[str]:
    names = CARRIED[topic.name]
    return [*names, *(f"{name}.binary" for name in names if name in _WITH_DATA)]


def _channel(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": [topic.cleanup]}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    if "max.message.bytes" in topic.config:
        configuration["max.message.bytes"] = int(topic.config["max.message.bytes"])
    return {
        "address": topic.name,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _message_names(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": configuration,
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _operation(topic: Topic) -> dict[str, Any]:
    return {"action": _verb(topic), "channel": {"$ref": f"#/channels/{_id(topic)}"}}


def _messages(name: str, schema: Mapping[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    """A shape's message; of an event with data also the one in binary mode."""
    file = f"./json/{name}.schema.json"
    is_event = name in CARRIED[ACCOUNT_EVENTS]
    common: dict[str, Any] = {"summary": schema["description"], "bindings": _key_binding(name)}
    messages: dict[str, Any] = {
        name: {
            "name": name,
            **common,
            "contentType": STRUCTURED if is_event else "application/json",
            "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": file}},
            "examples": [{"payload": dict(example)}],
        }
    }
    if name in _WITH_DATA:
        headers = {f"ce_{each}": example[each] for each in _attributes(schema)}
        messages[f"{name}.binary"] = {
            "name": f"{name}.binary",
            **common,
            "contentType": "application/json",
            "headers": _binary_headers(schema),
            "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"{file}#/properties/data"}},
            "examples": [{"headers": headers, "payload": example["data"]}],
        }
    return messages


def _key_binding(name: str) -> dict[str, Any]:
    key = {"type": "string", "description": "The account id.", "pattern": ACCOUNT_ID_PATTERN}
    if name == "dead_letter.v1":
        key = {"type": "string", "description": "The key of the dead record, whatever it was."}
    if name in PUBLICATIONS:
        description = "Written to every partition by number, in one transaction."
        key = {"type": "string", "description": description, "const": SCHEDULE_SUBJECT}
    if name == "tick.v1":
        key = {"type": "string", "description": "None: a tick is written to every partition by number."}
    return {"kafka": {"key": key, "bindingVersion": _KAFKA_BINDING}}


def _attributes(schema: Mapping[str, Any]) -> list[str]:
    return [name for name in schema["properties"] if name != "data"]


def _binary_headers(schema: Mapping[str, Any]) -> dict[str, Any]:
    names = _attributes(schema)
    return {
        "type": "object",
        "properties": {f"ce_{name}": schema["properties"][name] for name in names},
        "required": [f"ce_{name}" for name in names],
    }
