"""The examples are the contract: JSON Schema, model and core are all held to each of them."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from pipeline.domain.commands import Command, Publication, Tick
from pipeline.domain.usage import UsageEvent
from pipeline.validate import Invalid
from schemas.shapes import EVENTS, SHAPES
from tests.contract.examples import (
    RECORD_SHAPE,
    ROOT,
    Example,
    event_record,
    example,
    examples,
    parsed,
    whole_record,
)

VALID, INVALID = examples("valid"), examples("invalid")


def schema(shape: str) -> Draft202012Validator:
    content: dict[str, Any] = json.loads(
        (ROOT.parent / "json" / f"{shape}.schema.json").read_text(encoding="utf-8")
    )
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


SCHEMAS = {shape: schema(shape) for shape in SHAPES}


def refused_by_model(shape: str, message: dict[str, Any]) -> list[str]:
    """JSON pointers to what the model refuses."""
    try:
        SHAPES[shape].model_validate_json(json.dumps(message))
    except ValidationError as error:
        return ["/" + "/".join(str(step) for step in each["loc"]) for each in error.errors()]
    return []


def of(found: list[Example], *shapes: str) -> list[Example]:
    return [each for each in found if each.shape in shapes]


@pytest.mark.parametrize("valid", of(VALID, *SHAPES), ids=str)
def test_a_valid_example_passes_the_json_schema_and_the_model(valid: Example) -> None:
    assert [error.message for error in SCHEMAS[valid.shape].iter_errors(valid.content)] == []
    assert refused_by_model(valid.shape, valid.content) == []


@pytest.mark.parametrize("valid", of(VALID, *EVENTS), ids=str)
def test_a_valid_event_passes_the_core(valid: Example) -> None:
    kind = {"usage": UsageEvent, "account": Command, "schedule": Publication, "tick": Tick}[
        valid.shape.split(".")[0]
    ]
    assert isinstance(parsed(event_record(valid.content)), kind)


@pytest.mark.parametrize("valid", of(VALID, RECORD_SHAPE), ids=str)
def test_a_valid_record_means_the_event_it_names(valid: Example) -> None:
    means = parsed(event_record(example(valid.content["means"])))
    assert not isinstance(means, Invalid)
    assert parsed(whole_record(valid.content)) == means


@pytest.mark.parametrize("invalid", of(INVALID, *EVENTS), ids=str)
def test_an_invalid_event_is_a_dead_letter_with_this_reason_and_pointer(invalid: Example) -> None:
    content = invalid.content
    answer = parsed(event_record(content["event"], key=content.get("key", "")))
    assert isinstance(answer, Invalid)
    assert (answer.reason, answer.pointer) == (content["reason"], content["pointer"])


@pytest.mark.parametrize("invalid", of(INVALID, RECORD_SHAPE), ids=str)
def test_an_invalid_record_is_a_dead_letter_with_this_reason_and_pointer(invalid: Example) -> None:
    answer = parsed(whole_record(invalid.content))
    assert isinstance(answer, Invalid)
    assert (answer.reason, answer.pointer) == (invalid.content["reason"], invalid.content["pointer"])


@pytest.mark.parametrize("invalid", of(INVALID, *SHAPES), ids=str)
def test_model_and_schema_refuse_an_invalid_example_or_it_says_why_they_cannot(invalid: Example) -> None:
    content = invalid.content
    message = content["event"] if "event" in content else content["record"]
    model_accepts = not refused_by_model(invalid.shape, message)
    schema_accepts = SCHEMAS[invalid.shape].is_valid(message)
    assert model_accepts == ("only_core" in content)
    assert schema_accepts == ("only_core" in content or "schema_accepts" in content)


@pytest.mark.parametrize("invalid", of(INVALID, *(SHAPES.keys() - EVENTS.keys())), ids=str)
def test_the_model_refuses_an_invalid_record_at_this_pointer(invalid: Example) -> None:
    assert invalid.content["pointer"] in refused_by_model(invalid.shape, invalid.content["record"])


def test_every_shape_has_examples_and_every_example_a_shape() -> None:
    assert {each.shape for each in VALID} == {*SHAPES, RECORD_SHAPE}
    assert {each.shape for each in INVALID} == {*SHAPES, RECORD_SHAPE} - {"tick.v1"}
