"""Price books as data files: validated here, immutable once published, named by version and SHA-256.

A file under `schemas/price_books/` is never edited after its release: a change of price is a new version. A new
deployment begins with these files; from then on versions are published while it runs (`publication.py`).
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, WithJsonSchema, model_validator

from schemas.base import CREDITS_NOT_NEGATIVE_PATTERN, CreditAmount, Service, Term, WireModel

PRICE_CREDITS_MAX: Final = 1_000_000
"""Of one image. With the most images of an event it stays within what ClickHouse's columns hold."""

ImagePrice: TypeAlias = Annotated[
    CreditAmount,
    Field(ge=0, le=PRICE_CREDITS_MAX),
    WithJsonSchema({"type": "string", "pattern": CREDITS_NOT_NEGATIVE_PATTERN, "examples": ["8", "0.5"]}),
]
"""Credits of one image: a plain decimal, at most a million."""

Qualities: TypeAlias = dict[Literal["low", "medium", "high"], ImagePrice]


class Flat(WireModel):
    rule: Literal["flat"]
    credits: ImagePrice


class SizeTier(WireModel):
    pixels_max: Annotated[int, Field(ge=1)] | None
    """Inclusive; null for every size above the tiers before it."""
    credits: Qualities


class QualityBySize(WireModel):
    rule: Literal["quality_by_size"]
    tiers: Annotated[list[SizeTier], Field(min_length=1)]
    cap: ImagePrice

    @model_validator(mode="after")
    def _tiers_cover_every_size_once(self) -> "QualityBySize":
        bounds = [tier.pixels_max for tier in self.tiers]
        finite = [bound for bound in bounds[:-1] if bound is not None]
        if bounds[-1] is not None or len(finite) != len(bounds) - 1 or finite != sorted(set(finite)):
            raise ValueError(f"expected rising pixels_max with null last, got {bounds}")
        return self


class Megapixels(WireModel):
    rule: Literal["megapixels"]
    credits_per_megapixel: ImagePrice
    least: ImagePrice
    most: ImagePrice

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> "Megapixels":
        if self.least > self.most:
            raise ValueError(f"expected least <= most, got {self.least} > {self.most}")
        return self


class ServicePrice(WireModel):
    """Credits of one image of a service."""

    price: Annotated[Flat | QualityBySize | Megapixels, Field(discriminator="rule")]
    transparent_background: ImagePrice | None = None
    """Added per output image, outside any cap; null where the service has no such option."""


class PriceBook(WireModel):
    """All prices of one version."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,64}$")]
    effective_from: Term
    services: Annotated[dict[Service, ServicePrice], Field(min_length=1)]
