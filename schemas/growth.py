"""Whether a changed JSON Schema has only grown: what was valid, and what readers rely on, stays so."""

from collections.abc import Iterator
from typing import Any, Final, cast

WORDS: Final = frozenset({"description", "title", "examples", "$id", "$schema"})
"""Keywords for people; they may change."""

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema, *, written_by_us: bool, at: str = "") -> Iterator[str]:
    """In words, each change from `old` to `new` that is more than growth.

    What others write must still be accepted: nothing new is required of them. What we write must still be
    complete: nothing that was always there may be missing.
    """
    yield from _requirement(old, new, at, written_by_us=written_by_us)
    for keyword in sorted(old.keys() - WORDS - {"required"}):
        place, before, after = f"{at}/{keyword}", old[keyword], new.get(keyword)
        if keyword in {"properties", "$defs"}:
            yield from _members(before, after or {}, place, written_by_us=written_by_us)
        elif isinstance(before, dict) and isinstance(after, dict):
            nested = cast(Schema, before), cast(Schema, after)
            yield from breaks(*nested, written_by_us=written_by_us, at=place)
        else:
            yield from _value(keyword, before, after, place)
    for keyword in sorted(new.keys() - old.keys() - WORDS - {"required", "properties", "$defs", "default"}):
        yield f"{at}/{keyword} is new and narrows it"


def _value(keyword: str, before: object, after: object, at: str) -> Iterator[str]:
    if keyword == "enum":
        values = cast(list[object], after or [])
        gone = [value for value in cast(list[object], before) if value not in values]
        if gone:
            yield f"{at} no longer has {gone}"
    elif before != after:
        yield f"{at} was {before!r}, is {after!r}"


def _requirement(old: Schema, new: Schema, at: str, *, written_by_us: bool) -> Iterator[str]:
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    if written_by_us and before - after:
        yield f"{at}/required no longer has {sorted(before - after)}"
    if not written_by_us and after - before:
        yield f"{at}/required now also has {sorted(after - before)}"


def _members(before: Schema, after: Schema, at: str, *, written_by_us: bool) -> Iterator[str]:
    for name, schema in before.items():
        if name not in after:
            yield f"{at}/{name} is gone"
        else:
            yield from breaks(schema, after[name], written_by_us=written_by_us, at=f"{at}/{name}")
