"""Price books: all prices of one version, immutable once published.

The book in force is chosen by the time the event was accepted, never by the producer's clock (product.md 1).
Objects here compare by identity: a book is loaded once, and the memo of `rating` keys on its prices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.domain.credits import Credits
from pipeline.domain.instants import Instant


@dataclass(frozen=True, slots=True, eq=False)
class FlatPrice:
    """The same credits for every image."""

    credits: Credits


@dataclass(frozen=True, slots=True, eq=False)
class SizeTier:
    """Credits by quality up to a size of the output, inclusive."""

    pixels_max: int | None  # None: every size above the tiers before it.
    credits: Mapping[str, Credits]


@dataclass(frozen=True, slots=True, eq=False)
class QualityTablePrice:
    """Quality × output size, capped per image."""

    tiers: tuple[SizeTier, ...]
    cap: Credits


@dataclass(frozen=True, slots=True, eq=False)
class MegapixelPrice:
    """Credits for each started megapixel (1,000,000 pixels) of the output, within bounds per image."""

    credits_per_megapixel: Credits
    least: Credits
    most: Credits


Price: TypeAlias = FlatPrice | QualityTablePrice | MegapixelPrice


@dataclass(frozen=True, slots=True, eq=False)
class ServicePrice:
    """The price of one image of a service, and the add-on for a transparent background, outside any cap."""

    price: Price
    transparent_background: Credits | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PriceBook:
    version: str
    sha256: str
    effective_from: Instant
    services: Mapping[str, ServicePrice]


def book_in_force(schedule: Sequence[PriceBook], at: int) -> PriceBook:
    """The last book whose `effective_from` has come. The schedule is in that order, and its first book starts
    with the epoch: there is always one."""
    for book in reversed(schedule):
        if book.effective_from <= at:
            return book
    raise AssertionError("the first book of a schedule starts with the epoch")
