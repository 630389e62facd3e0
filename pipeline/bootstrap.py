"""The composition root of the core: settings and the data files of this release in, `Core` out."""

from collections.abc import Iterator
from importlib.resources import files

from pipeline.compiled import runs_compiled
from pipeline.domain.instants import DAY_MS, HOUR_MS, SECOND_MS
from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.domain.rules import Rules
from pipeline.metering import Core
from pipeline.published import canonical, plan_catalog, price_book
from pipeline.settings import RuleSettings, Settings
from pipeline.state import plan_catalog_key, price_book_key


def load_core(settings: Settings) -> Core:
    """Rules, keys, and what a new deployment begins with. Raises ValueError on a bad file, StaleCoreError when a
    compiled core is not the source's."""
    runs_compiled()
    return Core(
        rules=rules_of(settings.rules),
        bundled=bundled(),
        command_keys={
            key: bytes.fromhex(secret.get_secret_value()) for key, secret in settings.command_keys.items()
        },
    )


def rules_of(rules: RuleSettings) -> Rules:
    return Rules(
        hot_window_ms=rules.hot_window_hours * HOUR_MS,
        late_ms=rules.late_window_days * DAY_MS,
        reversal_ms=rules.reversal_days * DAY_MS,
        ahead_ms=rules.ahead_seconds_max * SECOND_MS,
        event_bytes_max=rules.event_bytes_max,
        prepaid_months=rules.prepaid_months,
        boundary_accounts_max=rules.boundary_accounts_max,
        publish_lead_ms=rules.publish_lead_seconds * SECOND_MS,
    )


def bundled() -> dict[bytes, bytes]:
    """The price books and plan catalogues of this release, by their keys in the changelog."""
    books = {price_book_key(price_book(each).version): each for each in _files("price_books")}
    catalogs = {plan_catalog_key(plan_catalog(each).version): each for each in _files("plans")}
    return books | catalogs


def price_books() -> list[PriceBook]:
    """The price books of this release, in order of `effective_from`."""
    return sorted(map(price_book, _files("price_books")), key=lambda book: book.effective_from)


def plan_catalogs() -> list[PlanCatalog]:
    """The plan catalogues of this release, in order of `effective_from`."""
    return sorted(map(plan_catalog, _files("plans")), key=lambda catalog: catalog.effective_from)


def _files(folder: str) -> Iterator[bytes]:
    for path in files("schemas").joinpath(folder).iterdir():
        if path.name.endswith(".json"):
            yield canonical(path.read_bytes())
