"""The usage that a load contains: realistic `data` of every service, as ready-made JSON.

A load of half a million events is made of a few hundred pieces of `data`, so that generating costs less than
publishing. What is spread over events is the account, the id and the time.
"""

from itertools import product
from typing import Any, NamedTuple

import orjson

SIZES = ((512, 512), (1024, 1024), (1536, 1024), (1024, 1792), (2048, 2048), (3840, 2160))
MANY = (1, 1, 1, 2, 4, 10)
"""Images of one event: mostly one, at times a batch."""
SHARES = {
    "image_generation": 50,
    "background_removal": 18,
    "image_analysis": 12,
    "upscaling": 12,
    "post_processing": 5,
    "transparent_background": 3,
}
"""Percent of the events, by service."""


class UsageTemplate(NamedTuple):
    """Everything of an event but its account, id and time."""

    service: str
    type: str
    source: str
    data_json: bytes


def templates() -> dict[str, list[UsageTemplate]]:
    """All pieces of `data`, by service, in a fixed order."""
    return {service: [_template(service, data) for data in pieces()] for service, pieces in _PIECES.items()}


def _template(service: str, data: dict[str, Any]) -> UsageTemplate:
    source = f"//services/{service.replace('_', '-')}"
    return UsageTemplate(service, f"org.apimage.usage.{service}.v1", source, orjson.dumps(data))


def _generation() -> list[dict[str, Any]]:
    return [
        {
            "quality": quality,
            "width": width,
            "height": height,
            "transparent_background": transparent,
            "images": images,
            "channel": "api",
            "model": "painter-2",  # No rule knows it: kept and reported.
        }
        for quality, (width, height), images, transparent in product(
            ("low", "medium", "high"), SIZES, MANY, (False, False, True)
        )
    ]


def _removal() -> list[dict[str, Any]]:
    formats = ("png", "webp", "jpeg", "psd")
    return [
        {"images": images, "format": each, "transparent_background": transparent, "channel": "web"}
        for images, each, transparent in product(MANY, formats, (False, True))
    ]


def _analysis() -> list[dict[str, Any]]:
    languages: tuple[list[str], ...] = (["en"], ["en", "de"], ["ja", "zh", "ko"], [])
    return [{"images": images, "languages": each} for images, each in product(MANY, languages)]


def _output_sizes() -> list[dict[str, Any]]:
    by_output = [{"output_width": w, "output_height": h, "images": n} for (w, h), n in product(SIZES, (1, 3))]
    by_scale = [
        {"input_width": w, "input_height": h, "scale": scale, "channel": "web"}
        for (w, h), scale in product(SIZES, (4, 2, 1.5, 0.25, 1.125))
    ]
    return [*by_output, *by_scale]


def _transparent() -> list[dict[str, Any]]:
    # Without `images` and `channel`: the defaults are part of what is tried.
    return [{}, {"images": 2}, {"images": 5, "channel": "web", "note": "Größe ✓"}]


_PIECES = {
    "image_generation": _generation,
    "background_removal": _removal,
    "image_analysis": _analysis,
    "upscaling": _output_sizes,
    "post_processing": _output_sizes,
    "transparent_background": _transparent,
}
