"""What the core is given and what it gives back: configuration, a partition's state on loan, a folded batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.domain.instants import Instant
from pipeline.domain.plans import Plan
from pipeline.domain.price_book import PriceBook
from pipeline.domain.rules import Rules
from pipeline.emit import OutRecord
from pipeline.state import Cursor, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCatalog:
    """All plans of one version."""

    version: str
    sha256: str
    effective_from: Instant
    plans: Mapping[str, Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What the rules need beside the log: the same in all workers of a deployment."""

    rules: Rules
    price_books: Mapping[str, PriceBook]
    plan_catalogs: Mapping[str, PlanCatalog]
    command_keys: Mapping[str, bytes]
    """Key id → secret, to verify commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """What the shell lends the core of one partition's state. The core does not change it."""

    partition: int
    cursor: Cursor
    accounts: Mapping[bytes, bytes]
    identities: Mapping[bytes, bytes]
    due_accounts: Callable[[int, int], Sequence[bytes]]
    """(clock_ms, limit) → keys of accounts whose next boundary has come, in order of (boundary, key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What one batch made: to be written in one transaction, then applied to memory."""

    records: list[OutRecord]
    accounts: dict[bytes, bytes]
    """The table's rows that are new or changed."""
    identities: dict[bytes, bytes]
    cursor: Cursor
    dead_letters: int


def initial_cursor(core: Core, topic_id: str) -> Cursor:
    """The cursor of a partition that nobody has read: every price book and plan catalogue of this release."""
    return Cursor(
        next_offset=0,
        partition_seq=0,
        clock_ms=0,
        digest=0,
        topic_id=topic_id,
        price_books=_refs(core.price_books),
        plan_catalogs=_refs(core.plan_catalogs),
    )


def _refs(published: Mapping[str, PriceBook] | Mapping[str, PlanCatalog]) -> tuple[VersionRef, ...]:
    refs = [
        VersionRef(version=each.version, sha256=each.sha256, effective_from=each.effective_from)
        for each in published.values()
    ]
    return tuple(sorted(refs, key=lambda ref: ref.effective_from))


Published = TypeVar("Published", PriceBook, PlanCatalog)


def published(known: Mapping[str, Published], ref: VersionRef, what: str) -> Published:
    """The content that a partition's schedule names. Another content under the same version is never used."""
    found = known.get(ref.version)
    if found is None or found.sha256 != ref.sha256:
        came = "none" if found is None else f"one with SHA-256 {found.sha256}"
        raise ValueError(
            f"expected {what} {ref.version!r} with SHA-256 {ref.sha256}, this release has {came}"
        )
    return found
