"""JSON Schema 2020-12 of the wire models, for producers and readers in other languages.

Descriptions are the models' docstrings, also those of attributes. What JSON Schema cannot say stands in them: an
integer written 2.0, an instant that does not exist, three decimal places of a scale.
"""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from schemas.shapes import RECORDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one shape, whole: it refers to nothing outside."""
    schema = model.model_json_schema(schema_generator=_Described)
    if name in RECORDS:
        # Readers keep validating by the schema that they have when ours has grown.
        _leave_room(schema)
        for each in schema.get("$defs", {}).values():
            _leave_room(each)
    return {"$schema": DIALECT, "$id": f"urn:creditstream:{name}", **schema}


def _leave_room(schema: dict[str, Any]) -> None:
    if schema.get("additionalProperties") is False:
        del schema["additionalProperties"]


class _Described(GenerateJsonSchema):
    """Pydantic's own, with attribute docstrings as descriptions and without titles that repeat the name."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json = super().model_schema(schema)
        described = _attribute_docstrings(schema["cls"])
        for name, attribute in json.get("properties", {}).items():
            if name in described:
                attribute["description"] = described[name]
        return json

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """Pydantic can do this too, but each time a model is imported, and workers have no use for it."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(body, ast.ClassDef)
            found |= _docstrings_after_annotations(body.body)
    return found


def _docstrings_after_annotations(body: list[ast.stmt]) -> dict[str, str]:
    found: dict[str, str] = {}
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(docstring))),
            ):
                found[name] = inspect.cleandoc(docstring)
            case _:
                pass
    return found
