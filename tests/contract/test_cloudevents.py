"""CloudEvents' own SDK judges ours, and its events pass our gate."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from pipeline.client.commands import CommandKey, signed, unsigned_command
from pipeline.client.events import encode, usage_event
from pipeline.domain.commands import Command
from pipeline.domain.instants import as_datetime, parse_instant
from pipeline.domain.usage import UsageEvent
from tests.builders import NOON, Record
from tests.contract.examples import COMMAND_KEYS, Example, examples, parsed

VALID = [each for each in examples("valid") if each.shape.startswith("usage.")]


def record_of(message: kafka.KafkaMessage, key: str) -> Record:
    return Record(0, NOON, key.encode(), message.value, list(message.headers.items()))


def sdk_event(event: dict[str, Any]) -> CloudEvent:
    attributes = {name: value for name, value in event.items() if name != "data"}
    attributes["time"] = datetime.fromisoformat(event["time"].upper())
    return CloudEvent(attributes, event["data"])


def by_sdk(event: dict[str, Any]) -> tuple[Record, Record]:
    """The SDK's records of an event: structured mode and binary mode."""
    return (
        record_of(kafka.to_structured_event(sdk_event(event)), event["subject"]),
        record_of(kafka.to_binary_event(sdk_event(event)), event["subject"]),
    )


@pytest.mark.parametrize("example", VALID, ids=str)
def test_an_event_of_the_sdk_is_the_same_usage_in_both_modes(example: Example) -> None:
    structured, binary = (parsed(record) for record in by_sdk(example.content))
    assert isinstance(structured, UsageEvent)
    assert structured == binary


def test_a_command_of_the_sdk_keeps_its_signature_in_both_modes() -> None:
    # The signature covers the time as it was written, and the SDK writes it in its own way: sign that.
    event = sdk_event(_command(time="2026-11-23T12:00:00Z"))
    structured = parsed(record_of(kafka.to_structured_event(event), "acct"))
    binary = parsed(record_of(kafka.to_binary_event(event), "acct"))
    assert isinstance(structured, Command)
    assert structured == binary


def _command(time: str) -> dict[str, Any]:
    command = unsigned_command(
        "open", account="acct", command_id="c", source="/tests", time=time, data={"plan": "free"}
    )
    return signed(command, CommandKey("example", COMMAND_KEYS["example"]))


def test_our_publishers_events_are_cloudevents_to_the_sdk() -> None:
    data = {"images": 2, "languages": ["en"]}
    ours = usage_event(
        "image_analysis",
        account="acct",
        event_id="e",
        source="/tests",
        time="2026-11-23T12:00:00.250Z",
        data=data,
    )
    key, value = encode(ours)

    theirs = kafka.from_kafka_event(
        kafka.KafkaMessage({"content-type": b"application/cloudevents+json; charset=utf-8"}, key, value)
    )

    assert theirs.get_id() == "e"
    assert theirs.get_source() == "/tests"
    assert theirs.get_type() == "org.apimage.usage.image_analysis.v1"
    assert theirs.get_subject() == "acct"
    assert theirs.get_time() == datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
    assert theirs.get_time() == as_datetime(parse_instant(ours["time"]))
    assert theirs.get_data() == data


def test_our_publishers_commands_are_cloudevents_to_the_sdk() -> None:
    key, value = encode(_command(time="2026-11-23T12:00:00.000Z"))

    theirs = kafka.from_kafka_event(kafka.KafkaMessage({}, key, value))

    assert theirs.get_extension("keyid") == "example"
    assert theirs.get_data() == {"plan": "free"}
