"""The example messages of `schemas/examples/`, read. What the files hold is in schemas/README.md."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.settings import RuleSettings
from pipeline.validate import Parsed, parse
from tests.builders import NOON, Record

ROOT = Path(__file__).parents[2] / "schemas" / "examples"
COMMAND_KEYS = {"example": bytes(range(32))}
RECORD_SHAPE = "account_event.v1"
"""Whole records of the input log: what no JSON Schema describes."""


class Example(NamedTuple):
    shape: str
    name: str
    content: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.shape}/{self.name}"


def examples(kind: str) -> list[Example]:
    """All of `valid` or `invalid`."""
    found = [
        Example(path.parts[-3], path.stem, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(ROOT.glob(f"*/{kind}/*.json"))
    ]
    assert found, f"expected examples under {ROOT}"
    return found


def example(name: str) -> dict[str, Any]:
    """One by its path, such as usage.upscaling.v1/valid/example."""
    return dict(json.loads((ROOT / f"{name}.json").read_text(encoding="utf-8")))


def parsed(record: Record) -> Parsed:
    """What the core reads."""
    return parse(record, event_bytes_max=RuleSettings().event_bytes_max, command_keys=COMMAND_KEYS)


def event_record(event: dict[str, Any], *, key: str | None = "") -> Record:
    """The record of an event in structured mode; its key is the subject where none is given."""
    subject = event.get("subject")
    if key == "":
        key = subject if isinstance(subject, str) else None
    return Record(0, NOON, None if key is None else key.encode(), json.dumps(event).encode())


def whole_record(content: dict[str, Any]) -> Record:
    """The record of an example that gives key, headers and value."""
    headers = [(name, _header(value)) for name, value in content["headers"].items()]
    return Record(0, NOON, content["key"].encode(), _value(content), headers)


def _header(value: str | dict[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else b64decode(value["base64"])


def _value(content: dict[str, Any]) -> bytes | None:
    if "value" in content:
        return json.dumps(content["value"]).encode()
    if content["value_parts"] is None:
        return None
    return b"".join(b64decode(part["base64"]) * part.get("times", 1) for part in content["value_parts"])
