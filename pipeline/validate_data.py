"""What `data` of each service must hold: the attributes that decide the price, checked and made exact.

Bounds stand in `schemas/usage_event.py`. A bool is not an integer here, and a float is none either.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from pipeline.domain.rating import MICROPIXELS
from pipeline.domain.reasons import Reason
from schemas.base import TEXT_PATTERN
from schemas.usage_event import LANGUAGES_MAX, SCALE_MAX, SIDE_PIXELS_MAX

CHANNELS: Final = ("web", "api")  # No set: what came may be a list, which cannot be looked up in one.
QUALITIES: Final = frozenset({"low", "medium", "high"})
TAG_LENGTH_MAX: Final = 64
_TEXT: Final = re.compile(TEXT_PATTERN)
SHOWN_LENGTH_MAX: Final = 48
"""Of a value in an error: enough to find it, too little to leak a payload."""

PricedData: TypeAlias = tuple[str, int, bool]
"""Quality ("" if none), output area in micropixels (0 if it has no price), transparent background."""


class Fault(Exception):  # noqa: N818  (never leaves validation: it ends as an `Invalid`)
    """An attribute is not what it must be."""

    def __init__(self, pointer: str, detail: str, reason: Reason = Reason.INVALID_DATA) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ServiceData:
    service: str
    known: frozenset[str]
    """Attributes of `data` beside `images` and `channel`; all others are kept as unknown."""
    read: Callable[[dict[str, Any]], PricedData]


def service_data() -> Iterable[ServiceData]:
    """Every service that can be published."""
    size = frozenset({"output_width", "output_height", "input_width", "input_height", "scale"})
    generation = frozenset({"quality", "width", "height", "transparent_background"})
    yield ServiceData("image_generation", generation, _image_generation)
    yield ServiceData(
        "background_removal", frozenset({"format", "transparent_background"}), _background_removal
    )
    yield ServiceData("image_analysis", frozenset({"languages"}), _image_analysis)
    yield ServiceData("upscaling", size, _output_size)
    yield ServiceData("post_processing", size, _output_size)
    yield ServiceData("transparent_background", frozenset(), _nothing_else)


def _image_generation(data: dict[str, Any]) -> PricedData:
    quality = data.get("quality")
    if not (isinstance(quality, str) and quality in QUALITIES):
        raise Fault("/data/quality", f"expected 'low', 'medium' or 'high', got {shown(quality)}")
    area = integer(data, "width", SIDE_PIXELS_MAX) * integer(data, "height", SIDE_PIXELS_MAX)
    return quality, area * MICROPIXELS, _flag(data, "transparent_background")


def _background_removal(data: dict[str, Any]) -> PricedData:
    if data.get("format") is not None:
        _tag(data["format"], "/data/format")
    return "", 0, _flag(data, "transparent_background")


def _image_analysis(data: dict[str, Any]) -> PricedData:
    languages = data.get("languages", [])
    if not (isinstance(languages, list) and len(languages) <= LANGUAGES_MAX):
        detail = f"expected a list of at most {LANGUAGES_MAX} languages, got {shown(languages)}"
        raise Fault("/data/languages", detail)
    for index, language in enumerate(languages):
        _tag(language, f"/data/languages/{index}")
    return "", 0, False


def _output_size(data: dict[str, Any]) -> PricedData:
    """Output width × height where both are given, else input size × scale², exact to the millionth of a pixel."""
    if ("output_width" in data and "output_height" in data) or "input_width" not in data:
        area = integer(data, "output_width", SIDE_PIXELS_MAX) * integer(
            data, "output_height", SIDE_PIXELS_MAX
        )
        return "", area * MICROPIXELS, False
    area = integer(data, "input_width", SIDE_PIXELS_MAX) * integer(data, "input_height", SIDE_PIXELS_MAX)
    return "", area * _scale_thousandths(data.get("scale")) ** 2, False


def _nothing_else(data: dict[str, Any]) -> PricedData:
    del data
    return "", 0, False


def integer(data: dict[str, Any], name: str, most: int) -> int:
    """An integer from 1 to `most`. Neither a bool nor 2.0 is one."""
    value = data.get(name)
    if type(value) is int and 1 <= value <= most:
        return value
    came = shown(value) if name in data else "nothing"
    raise Fault(f"/data/{name}", f"expected an integer from 1 to {most}, got {came}")


def is_text(value: object, length_max: int) -> bool:
    """A string of 1 to `length_max` characters, none of them a control character."""
    return isinstance(value, str) and 0 < len(value) <= length_max and _TEXT.fullmatch(value) is not None


def _scale_thousandths(scale: object) -> int:
    """The factor in thousandths. JSON's number is taken by its shortest decimal, never computed with as a float."""
    if type(scale) in (int, float):
        thousandths = Decimal(str(scale)).scaleb(3)
        if 0 < thousandths <= SCALE_MAX * 1000 and thousandths == int(thousandths):
            return int(thousandths)
    detail = f"expected a number above 0 and at most {SCALE_MAX} with at most three decimal places, got {shown(scale)}"
    raise Fault("/data/scale", detail)


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if value is True or value is False:
        return value
    raise Fault(f"/data/{name}", f"expected true or false, got {shown(value)}")


def _tag(value: object, pointer: str) -> None:
    if not (isinstance(value, str) and 0 < len(value) <= TAG_LENGTH_MAX):
        raise Fault(pointer, f"expected a string of 1 to {TAG_LENGTH_MAX} characters, got {shown(value)}")


def shown(value: object) -> str:
    """A value for an error message: in ASCII, cut short."""
    match value:
        case None:
            return "nothing"
        case dict() | list():
            return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
        case _:
            text = ascii(value)
            return text if len(text) <= SHOWN_LENGTH_MAX else text[:SHOWN_LENGTH_MAX] + "…"
