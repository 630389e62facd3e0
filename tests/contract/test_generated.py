"""Generated files are what the models say, and published schemas only grow."""

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline.domain.grants import GRANT_MICROS_MAX, KIND_PRIORITIES, PRIORITY_MAX, RESERVED_GRANT_IDS
from pipeline.domain.reasons import REASON_CODES, Reason
from pipeline.validate_command import COMMANDS
from pipeline.validate_usage import SERVICES
from schemas import account_command, topics
from schemas.generate import EXIT_FINDINGS, EXIT_OK, EXIT_REFUSED, ROOT, main
from schemas.growth import breaks
from schemas.json_schema import json_schema
from schemas.shapes import CARRIED, SHAPES, USAGE
from schemas.shapes import COMMANDS as COMMAND_SHAPES

ASYNCAPI: dict[str, Any] = yaml.safe_load((ROOT / "asyncapi.yaml").read_text(encoding="utf-8"))
INTERNAL = {
    topics.IDENTITIES,
    topics.SINK_PLANS,
    topics.RECONCILE_MARKS,
    topics.API_KEYS,
    topics.ADMIN_ACTIONS,
    topics.NOTIFICATION_SETTINGS,
    topics.NOTIFICATION_REQUESTS,
    topics.changelog("app"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the folder, to be hurt."""
    return Path(shutil.copytree(ROOT, tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__")))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_generated_files_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["--check"]), capsys.readouterr().out) == (EXIT_OK, "")


def test_a_difference_is_named_and_nothing_written(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy / "json" / "usage.upscaling.v1.schema.json"
    edit(path, '"maximum": 64', '"maximum": 65')
    (copy / "json" / "usage.painting.v1.schema.json").write_text("{}")
    (copy / "asyncapi.yaml").unlink()

    assert main(["--check"], copy) == EXIT_FINDINGS

    said = capsys.readouterr().out
    assert "schemas/json/usage.upscaling.v1.schema.json differs" in said
    assert "schemas/json/usage.painting.v1.schema.json belongs to no shape" in said
    assert "schemas/asyncapi.yaml is missing" in said
    assert '"maximum": 65' in path.read_text(encoding="utf-8")


def test_what_would_break_a_published_schema_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As if it had been published with a wider bound than the model has now.
    edit(copy / "json" / "usage.upscaling.v1.schema.json", '"maximum": 64', '"maximum": 65')

    assert main([], copy) == EXIT_REFUSED
    assert "scale/maximum was 65, is 64" in capsys.readouterr().err


def change(schema: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = deepcopy(schema)
    *steps, last = path.split("/")
    at: dict[str, Any] = changed
    for step in steps:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return changed


USAGE_SCHEMA = json_schema("usage.upscaling.v1", SHAPES["usage.upscaling.v1"])
RECORD_SCHEMA = json_schema("metered_record.v1", SHAPES["metered_record.v1"])


@pytest.mark.parametrize(
    ("schema", "path", "value", "grows"),
    [
        (USAGE_SCHEMA, "description", "Better words.", True),
        (USAGE_SCHEMA, "properties/region", {"type": "string"}, True),
        (USAGE_SCHEMA, "required", ["type"], True),
        (USAGE_SCHEMA, "$defs/OutputSize/properties/channel/enum", ["web", "api", "app"], True),
        (USAGE_SCHEMA, "$defs/OutputSize/properties/channel/enum", ["web"], False),
        (USAGE_SCHEMA, "$defs/OutputSize/properties/images", None, False),
        (USAGE_SCHEMA, "$defs/OutputSize/properties/images/type", "string", False),
        (USAGE_SCHEMA, "$defs/OutputSize/properties/images/maximum", 9, False),
        (USAGE_SCHEMA, "properties/subject/minLength", 9, False),
        (USAGE_SCHEMA, "required", [*USAGE_SCHEMA["required"], "region"], False),
        (USAGE_SCHEMA, "$defs/ScaledSize", None, False),
        (RECORD_SCHEMA, "properties/region", {"type": "string"}, True),
        (RECORD_SCHEMA, "required", [*RECORD_SCHEMA["required"], "region"], True),
        (RECORD_SCHEMA, "required", ["credits"], False),
        (RECORD_SCHEMA, "properties/credits", None, False),
    ],
)
def test_growing_is_told_from_breaking(schema: dict[str, Any], path: str, value: object, grows: bool) -> None:
    found = list(breaks(schema, change(schema, path, value), written_by_us=schema is RECORD_SCHEMA))
    assert (found == []) == grows


def test_the_same_schema_breaks_nothing() -> None:
    assert list(breaks(USAGE_SCHEMA, USAGE_SCHEMA, written_by_us=False)) == []


# AsyncAPI. No Python tool checks version 3 whole; these are the rules that readers of the document rely on.


def references(node: object) -> Iterator[str]:
    match node:
        case dict():
            for name, each in node.items():
                if name == "$ref":
                    yield each
                else:
                    yield from references(each)
        case list():
            for each in node:
                yield from references(each)
        case _:
            pass


def resolve(reference: str) -> Any:
    file, _, pointer = reference.partition("#")
    found = json.loads((ROOT / file).read_text(encoding="utf-8")) if file else ASYNCAPI
    for step in pointer.split("/")[1:]:
        found = found[step]
    return found


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    found = list(references(ASYNCAPI))
    assert len(found) > 2 * len(SHAPES)
    assert all(isinstance(resolve(each), dict) for each in found)


def test_every_topic_is_a_channel_or_internal() -> None:
    described = {channel["address"] for channel in ASYNCAPI["channels"].values()}
    known = {topic.name for topic in topics.topics("app", hot_window_hours=72)}
    assert described == set(CARRIED)
    assert known == described | INTERNAL


def test_every_channel_has_one_operation() -> None:
    used = [operation["channel"]["$ref"] for operation in ASYNCAPI["operations"].values()]
    assert sorted(used) == sorted(f"#/channels/{name}" for name in ASYNCAPI["channels"])
    assert {operation["action"] for operation in ASYNCAPI["operations"].values()} == {"receive", "send"}


@pytest.mark.parametrize("name", ASYNCAPI["components"]["messages"])
def test_a_messages_examples_are_valid(name: str) -> None:
    message = ASYNCAPI["components"]["messages"][name]
    whole = resolve(message["payload"]["schema"]["$ref"].split("#")[0] + "#")
    payload = resolve(message["payload"]["schema"]["$ref"])
    validator = Draft202012Validator({"$defs": whole.get("$defs", {}), **payload})
    headers = Draft202012Validator(message.get("headers", {}))
    assert message["examples"]
    for each in message["examples"]:
        validator.validate(each["payload"])
        headers.validate(each.get("headers", {}))


# What is said twice, because the domain imports nothing of the schemas.


def test_core_and_shapes_know_the_same_types() -> None:
    assert {f"org.apimage.{name}" for name in USAGE} == set(SERVICES)
    assert {f"org.apimage.{name}" for name in COMMAND_SHAPES} == set(COMMANDS)


def test_bounds_of_a_grant_are_the_same_in_core_and_model() -> None:
    properties = json_schema("account.grant.v1", SHAPES["account.grant.v1"])["$defs"]["IssueGrant"][
        "properties"
    ]
    assert account_command.GRANT_CREDITS_MAX * 1_000_000 == GRANT_MICROS_MAX
    assert RESERVED_GRANT_IDS.pattern == account_command.RESERVED_GRANT_IDS
    assert set(properties["kind"]["enum"]) == set(KIND_PRIORITIES)
    assert properties["priority"]["anyOf"][0]["maximum"] == PRIORITY_MAX


def test_every_reason_of_the_core_is_in_the_model_of_its_record() -> None:
    def codes(name: str) -> set[str]:
        reason = json_schema(name, SHAPES[name])["properties"]["reason"]
        return {
            code for each in reason.get("anyOf", [reason]) for code in each.get("enum", [each.get("const")])
        }

    dead, metered, results = codes("dead_letter.v1"), codes("metered_record.v1"), codes("command_result.v1")
    assert dead | metered | results == {*Reason, ""}
    assert {str(reason) for reason in REASON_CODES} == (metered | results) - {"", "duplicate"}
