"""The composition root of the core: settings and published data files in, `Core` out."""

import json
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from typing import assert_never

from pipeline.domain.credits import Credits
from pipeline.domain.instants import DAY_MS, HOUR_MS, SECOND_MS, as_instant
from pipeline.domain.plans import Plan
from pipeline.domain.price_book import (
    FlatPrice,
    MegapixelPrice,
    Price,
    PriceBook,
    QualityTablePrice,
    ServicePrice,
    SizeTier,
)
from pipeline.domain.rules import Rules
from pipeline.metering import Core, PlanCatalog
from pipeline.settings import RuleSettings, Settings
from schemas import plan as plan_schema
from schemas import price_book as book_schema


def load_core(settings: Settings) -> Core:
    """Rules, keys, and every price book and plan catalogue of this release. Raises ValueError on a bad file."""
    return Core(
        rules=rules_of(settings.rules),
        price_books={book.version: book for book in price_books()},
        plan_catalogs={catalog.version: catalog for catalog in plan_catalogs()},
        command_keys={
            key: bytes.fromhex(secret.get_secret_value()) for key, secret in settings.command_keys.items()
        },
    )


def rules_of(rules: RuleSettings) -> Rules:
    return Rules(
        hot_window_ms=rules.hot_window_hours * HOUR_MS,
        late_ms=rules.late_window_days * DAY_MS,
        ahead_ms=rules.ahead_seconds_max * SECOND_MS,
        event_bytes_max=rules.event_bytes_max,
        prepaid_months=rules.prepaid_months,
        boundary_accounts_max=rules.boundary_accounts_max,
    )


def price_books() -> list[PriceBook]:
    """The published price books, in order of `effective_from`."""
    books = [price_book(content) for content in _published("price_books")]
    return sorted(books, key=lambda book: book.effective_from)


def price_book(content: bytes) -> PriceBook:
    """A price book from the bytes of its file."""
    book = book_schema.PriceBook.model_validate_json(content)
    return PriceBook(
        version=book.version,
        sha256=_content_hash(content),
        effective_from=as_instant(book.effective_from),
        services={name: _service_price(price) for name, price in book.services.items()},
    )


def plan_catalogs() -> list[PlanCatalog]:
    """The published plan catalogues, in order of `effective_from`."""
    catalogs = [plan_catalog(content) for content in _published("plans")]
    return sorted(catalogs, key=lambda catalog: catalog.effective_from)


def plan_catalog(content: bytes) -> PlanCatalog:
    """A plan catalogue from the bytes of its file."""
    catalog = plan_schema.PlanCatalog.model_validate_json(content)
    plans = [
        Plan(
            plan_id=plan.plan,
            paid=plan.paid,
            monthly_credits=_credits(plan.monthly_credits),
            period_months=plan.period_months,
            overage_price=plan.overage_price,
            currency=plan.currency,
        )
        for plan in catalog.plans
    ]
    return PlanCatalog(
        version=catalog.version,
        sha256=_content_hash(content),
        effective_from=as_instant(catalog.effective_from),
        plans={plan.plan_id: plan for plan in plans},
    )


def _published(folder: str) -> Iterator[bytes]:
    for path in files("schemas").joinpath(folder).iterdir():
        if path.name.endswith(".json"):
            yield path.read_bytes()


def _content_hash(content: bytes) -> str:
    """SHA-256 of what the file says, whatever its white space."""
    return sha256(json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
