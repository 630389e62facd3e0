"""What the core is given and what it gives back: configuration, a partition's state on loan, a folded batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.domain.plans import PlanCatalog
from pipeline.domain.price_book import PriceBook
from pipeline.domain.rules import Rules
from pipeline.emit import OutRecord
from pipeline.published import plan_catalog, price_book
from pipeline.state import BUNDLED, PLAN_CATALOG_KEYS, PRICE_BOOK_KEYS, Cursor, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What the rules need beside the log: the same in all workers of a deployment."""

    rules: Rules
    bundled: Mapping[bytes, bytes]
    """Price books and plan catalogues that a partition begins with, by their keys in the changelog."""
    command_keys: Mapping[str, bytes]
    """Key id → secret, to verify commands."""


class Identities(Protocol):
    """What was answered within the hot window and a little longer. A dict is one."""

    def get(self, key: bytes, /) -> bytes | None:
        """The packed first answer to an identity, or None."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """What the shell lends the core of one partition's state. The core does not change it."""

    partition: int
    cursor: Cursor
    published: Mapping[bytes, bytes]
    """The content of every version in the cursor's schedules, by its key; empty before the first batch."""
    accounts: Mapping[bytes, bytes]
    identities: Identities
    due_accounts: Callable[[int, int], Sequence[bytes]]
    """(clock_ms, limit) → keys of accounts whose next boundary has come, in order of (boundary, key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What one batch made: to be written in one transaction, then applied to memory."""

    records: list[OutRecord]
    accounts: dict[bytes, bytes]
    """The table's rows that are new or changed."""
    published: dict[bytes, bytes]
    """Further rows of the table: content of versions that are new in the schedule."""
    identities: dict[bytes, bytes]
    cursor: Cursor
    dead_letters: int


def initial_cursor(core: Core, topic_id: str) -> Cursor:
    """The cursor of a partition that nobody has read: every price book and plan catalogue of this release."""
    bundled = core.bundled.items()
    return Cursor(
        next_offset=0,
        partition_seq=0,
        clock_ms=0,
        digest=0,
        topic_id=topic_id,
        price_books=_refs(price_book(each) for key, each in bundled if key.startswith(PRICE_BOOK_KEYS)),
        plan_catalogs=_refs(plan_catalog(each) for key, each in bundled if key.startswith(PLAN_CATALOG_KEYS)),
    )


def reference(published: PriceBook | PlanCatalog, offset: int) -> VersionRef:
    """What the cursor says of published content."""
    return VersionRef(
        version=published.version,
        sha256=published.sha256,
        effective_from=published.effective_from,
        offset=offset,
    )


def _refs(published: Iterable[PriceBook | PlanCatalog]) -> tuple[VersionRef, ...]:
    return tuple(sorted((reference(each, BUNDLED) for each in published), key=lambda ref: ref.effective_from))
