"""Published content: the bytes of a price book or plan catalogue to the values that the rules use, and its name.

The content is JSON; its SHA-256 is that of its canonical form, so that white space and the order of keys make no
other version. What is read is remembered by its bytes: a batch pays nothing for the books of its partition.
"""

from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Final, assert_never

import orjson

from pipeline.domain.credits import Credits
from pipeline.domain.instants import as_instant
from pipeline.domain.plans import Pack, Plan, PlanCatalog
from pipeline.domain.price_book import (
    FlatPrice,
    MegapixelPrice,
    Price,
    PriceBook,
    QualityTablePrice,
    ServicePrice,
    SizeTier,
)
from schemas import plan as plan_schema
from schemas import price_book as book_schema

REMEMBERED_MAX: Final = 1024
"""Of each kind; several times what one schedule holds."""


@lru_cache(maxsize=REMEMBERED_MAX)
def price_book(content: bytes) -> PriceBook:
    """A price book. Raises pydantic's ValidationError, which is a ValueError."""
    book = book_schema.PriceBook.model_validate_json(content)
    return PriceBook(
        version=book.version,
        sha256=content_hash(content),
        effective_from=as_instant(book.effective_from),
        services={name: _service_price(price) for name, price in book.services.items()},
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def plan_catalog(content: bytes) -> PlanCatalog:
    """A plan catalogue. Raises pydantic's ValidationError, which is a ValueError."""
    catalog = plan_schema.PlanCatalog.model_validate_json(content)
    plans = [
        Plan(
            plan_id=plan.plan,
            paid=plan.paid,
            monthly_credits=_credits(plan.monthly_credits),
            period_months=plan.period_months,
            overage_price=plan.overage_price,
            currency=plan.currency,
            packs={
                pack.pack: Pack(pack_id=pack.pack, credits=_credits(pack.credits), price=pack.price)
                for pack in plan.packs
            },
        )
        for plan in catalog.plans
    ]
    return PlanCatalog(
        version=catalog.version,
        sha256=content_hash(content),
        effective_from=as_instant(catalog.effective_from),
        plans={plan.plan_id: plan for plan in plans},
    )


def canonical(content: bytes) -> bytes:
    """The same bytes for the same content: keys sorted, no white space. Raises ValueError when it is no JSON."""
    return orjson.dumps(orjson.loads(content), option=orjson.OPT_SORT_KEYS)


def content_hash(content: bytes) -> str:
    """SHA-256 of what the content says, 64 hexadecimal digits."""
    return sha256(canonical(content)).hexdigest()


def _service_price(service: book_schema.ServicePrice) -> ServicePrice:
    add_on = service.transparent_background
    return ServicePrice(_price(service.price), None if add_on is None else _credits(add_on))


def _price(price: book_schema.Flat | book_schema.QualityBySize | book_schema.Megapixels) -> Price:
    match price:
        case book_schema.Flat():
            return FlatPrice(_credits(price.credits))
        case book_schema.QualityBySize():
            tiers = [
                SizeTier(
                    tier.pixels_max, {quality: _credits(amount) for quality, amount in tier.credits.items()}
                )
                for tier in price.tiers
            ]
            return QualityTablePrice(tuple(tiers), _credits(price.cap))
        case book_schema.Megapixels():
            return MegapixelPrice(
                _credits(price.credits_per_megapixel), _credits(price.least), _credits(price.most)
            )
        case _:
            assert_never(price)


def _credits(amount: Decimal) -> Credits:
    """Micro-credits of a wire amount, which its model has bounded to six places."""
    return Credits(int(amount.scaleb(6)))
