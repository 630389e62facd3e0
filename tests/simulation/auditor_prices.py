"""The prices of the product's rules, section 1, typed in a second time."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MEGAPIXEL = Decimal(1_000_000)
CAP = 9

LOW_OR_MEDIUM = ((Decimal("1.1"), 1), (Decimal("2.2"), 2), (Decimal("4.3"), 3))
LOW_OR_MEDIUM_ABOVE = 5
HIGH = ((Decimal("1.1"), 2), (Decimal("2.2"), 4), (Decimal("4.3"), 6))
HIGH_ABOVE = 9


def price_of_image(service: str, data: dict[str, Any]) -> Decimal:
    """Credits of one image. `data` was found valid."""
    extra = 1 if data.get("transparent_background") else 0
    if service == "image_generation":
        return Decimal(min(_generation(data), CAP) + extra)
    if service == "background_removal":
        return Decimal(2 + extra)
    if service in {"upscaling", "post_processing"}:
        return Decimal(_by_megapixel(output_pixels(data)))
    assert service in {"image_analysis", "transparent_background"}
    return Decimal(1)


def _generation(data: dict[str, Any]) -> int:
    megapixels = Decimal(data["width"]) * Decimal(data["height"]) / MEGAPIXEL
    table, above = (HIGH, HIGH_ABOVE) if data["quality"] == "high" else (LOW_OR_MEDIUM, LOW_OR_MEDIUM_ABOVE)
    return next((credits_ for most, credits_ in table if megapixels <= most), above)


def output_pixels(data: dict[str, Any]) -> Decimal:
    """The output's area, which is exact with a scale of three places."""
    if "output_width" in data and "output_height" in data:
        return Decimal(data["output_width"]) * Decimal(data["output_height"])
    scale = Decimal(data["scale"])
    return Decimal(data["input_width"]) * Decimal(data["input_height"]) * scale * scale


def _by_megapixel(pixels: Decimal) -> int:
    whole, rest = divmod(pixels, MEGAPIXEL)
    return max(1, min(9, int(whole) + (1 if rest else 0)))


def price_by_book(book: Mapping[str, Any], service: str, data: dict[str, Any]) -> Decimal | None:
    """Credits of one image by a published book; None where it has no price."""
    terms = book["services"].get(service)
    if terms is None:
        return None
    base = _base(terms["price"], data)
    if base is None or not (data.get("transparent_background") and service != "transparent_background"):
        return base
    extra = terms.get("transparent_background")
    return None if extra is None else base + Decimal(extra)


def _base(price: Mapping[str, Any], data: dict[str, Any]) -> Decimal | None:
    if price["rule"] == "flat":
        return Decimal(price["credits"])
    if price["rule"] == "megapixels":
        whole, rest = divmod(output_pixels(data), MEGAPIXEL)
        by_size = (whole + (1 if rest else 0)) * Decimal(price["credits_per_megapixel"])
        return max(Decimal(price["least"]), min(Decimal(price["most"]), by_size))
    assert price["rule"] == "quality_by_size"
    pixels = Decimal(data["width"]) * Decimal(data["height"])
    row = next(
        tier["credits"]
        for tier in price["tiers"]
        if tier["pixels_max"] is None or pixels <= tier["pixels_max"]
    )
    return min(Decimal(row[data["quality"]]), Decimal(price["cap"])) if data["quality"] in row else None
