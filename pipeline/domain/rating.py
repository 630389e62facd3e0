"""Rating: what a usage event costs by a price book, step by step. The rules of product.md section 1.

A batch costs the sum of its images, always; the channel never changes a price. A service or quality that the
book does not price is refused with a reason, never rated at 0.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, assert_never

from pipeline.domain.credits import Credits, format_credits
from pipeline.domain.price_book import (
    FlatPrice,
    MegapixelPrice,
    PriceBook,
    QualityTablePrice,
    ServicePrice,
    SizeTier,
)
from pipeline.domain.usage import UsageEvent

MICROPIXELS = 1_000_000
"""In one pixel."""
MEGAPIXEL = 1_000_000
"""Pixels in one megapixel (product.md section 1, our decision: decimal, not 2^20)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rule as applied, with the credits of one image after it."""

    rule: str
    detail: str
    credits_per_image: Credits


@dataclass(frozen=True, slots=True, eq=False)
class RatedImage:
    """The price of one image and how it came about. The same object for the same question."""

    credits: Credits
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Unrated:
    """The book has no price for this."""

    detail: str


class RatedUsage(NamedTuple):
    """An event's cost: `credits` = images × the image's price."""

    credits: Credits
    image: RatedImage
    price_book: PriceBook


def rate(event: UsageEvent, book: PriceBook) -> RatedUsage | Unrated:
    """Price the event by the book."""
    price = book.services.get(event.service)
    if price is None:
        return Unrated(f"price book {book.version} has no price for {event.service}")
    image = rate_image(price, event.quality, event.output_micropixels, event.transparent)
    if isinstance(image, Unrated):
        return image
    return RatedUsage(Credits(image.credits * event.images), image, book)


@lru_cache(maxsize=16_384)  # Few sizes and qualities make up nearly all usage.
def rate_image(
    service: ServicePrice,
    quality: str,
    output_micropixels: int,
    transparent: bool,  # noqa: FBT001  (an attribute of the event)
) -> RatedImage | Unrated:
    """Price one image: base price, cap or bounds, then the add-on, which stands outside the cap."""
    steps = _base_steps(service.price, quality, output_micropixels)
    if isinstance(steps, Unrated):
        return steps
    if transparent:
        if service.transparent_background is None:
            return Unrated("a transparent background has no price for this service")
        total = Credits(steps[-1].credits_per_image + service.transparent_background)
        detail = f"+{format_credits(service.transparent_background)} per output image, outside the cap"
        steps = (*steps, Step("transparent_background", detail, total))
    return RatedImage(steps[-1].credits_per_image, steps)


def _base_steps(
    price: FlatPrice | QualityTablePrice | MegapixelPrice, quality: str, micropixels: int
) -> tuple[Step, ...] | Unrated:
    match price:
        case FlatPrice():
            return (Step("flat", f"{format_credits(price.credits)} per image", price.credits),)
        case QualityTablePrice():
            return _quality_table_steps(price, quality, micropixels)
        case MegapixelPrice():
            return _megapixel_steps(price, micropixels)
        case _:
            assert_never(price)


def _quality_table_steps(
    price: QualityTablePrice, quality: str, micropixels: int
) -> tuple[Step, ...] | Unrated:
    tier = _tier_of(price, micropixels)
    base = tier.credits.get(quality)
    if base is None:
        return Unrated(f"quality {quality!r} has no price")
    bound = "the largest size" if tier.pixels_max is None else f"at most {_megapixels(tier.pixels_max)}"
    size = _megapixels(micropixels // MICROPIXELS)
    step = Step(
        "quality_by_size", f"{quality} quality, {size} ({bound}): {format_credits(base)} per image", base
    )
    if base <= price.cap:
        return (step,)
    return step, Step("cap", f"at most {format_credits(price.cap)} per image", price.cap)


def _tier_of(price: QualityTablePrice, micropixels: int) -> SizeTier:
    for tier in price.tiers:
        if tier.pixels_max is None or micropixels <= tier.pixels_max * MICROPIXELS:
            return tier
    raise AssertionError("the last tier of a table has no upper bound")


def _megapixel_steps(price: MegapixelPrice, micropixels: int) -> tuple[Step, ...]:
    started = -(-micropixels // (MICROPIXELS * MEGAPIXEL))
    base = Credits(started * price.credits_per_megapixel)
    size = _megapixels(-(-micropixels // MICROPIXELS))
    step = Step("megapixels", f"{size}, {started} started: {format_credits(base)} per image", base)
    bounded = min(max(base, price.least), price.most)
    if bounded == base:
        return (step,)
    word = "at most" if bounded < base else "at least"
    return step, Step(
        "cap" if bounded < base else "minimum", f"{word} {format_credits(bounded)} per image", bounded
    )


def _megapixels(pixels: int) -> str:
    return f"{format_credits(pixels)} megapixels"  # A pixel is to a megapixel as a micro-credit to a credit.
