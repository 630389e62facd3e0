"""The rules that `tests/property/broken_rules.py` breaks are still where it looks, and every property has one."""

import ast
from pathlib import Path

import pytest

from tests.property.rules_to_break import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
PROPERTIES = {
    f"{path.name}::{each.name}"
    for path in (ROOT / "tests" / "property").glob("test_*.py")
    for each in ast.parse(path.read_text()).body
    if isinstance(each, ast.FunctionDef) and each.name.startswith("test_") and each.decorator_list
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.rule)
def test_the_text_of_each_rule_is_in_its_file_once(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.old != mutation.new


def test_each_property_guards_a_rule_that_can_be_broken() -> None:
    assert {each for mutation in MUTATIONS for each in mutation.red} == PROPERTIES
