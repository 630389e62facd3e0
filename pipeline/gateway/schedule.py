"""The price books and plan catalogues of the running deployment, as its workers' cursors name them.

Read when the gateway starts, and again before the next answer after a worker has answered a publication: the answer and
the cursor that knows the version are one transaction. Before any worker has begun: what this release would begin with.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from pipeline.bootstrap import bundled, load_core
from pipeline.client.schedule import PLAN_CATALOGS, PRICE_BOOKS, DeploymentReader, Kind
from pipeline.core import initial_cursor
from pipeline.domain.price_book import PriceBook
from pipeline.gateway.answers import Answers
from pipeline.gateway.problems import ProblemError
from pipeline.kafka import KafkaException
from pipeline.pricing import Pricing
from pipeline.published import content_hash, price_book
from pipeline.settings import Settings
from pipeline.state import Cursor

UNBEGUN_SECONDS: Final = 1.0
"""While a partition has no cursor, it is looked again after so long: a worker begins with what its release brings."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What the deployment has, in the order of `effective_from`."""

    price_books: tuple[bytes, ...]
    """Whole contents, canonical JSON."""
    plan_catalogs: tuple[bytes, ...]
    pricing: Pricing
    """By these books."""
    book_hashes: Mapping[str, str]
    """SHA-256 by version of a price book."""
    are_begun: bool
    """Whether every partition has a cursor."""


@dataclass(slots=True)
class Schedule:
    """Knows the versions. `now` reads again only where something may have changed."""

    settings: Settings
    answers: Answers
    _contents: dict[bytes, bytes] = field(default_factory=bundled)
    """By their keys in the changelog. A version never gets other content."""
    _versions: Versions | None = None
    _read_at: tuple[int, float] = (-1, 0.0)
    """Publications that had been answered by then, and the monotonic clock."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Versions:
        """What there is now. Raises `kafka_unavailable`."""
        async with self._lock:
            if self._versions is None or self._may_have_changed(self._versions):
                read_at = self.answers.publications, time.monotonic()
                try:
                    self._versions = await asyncio.to_thread(self._read)
                except (KafkaException, TimeoutError) as error:
                    detail = "the price books in force are not known"
                    raise ProblemError("kafka_unavailable", detail, retry_after=1) from error
                self._read_at = read_at
            return self._versions

    def _may_have_changed(self, versions: Versions) -> bool:
        publications, at = self._read_at
        waits = versions.are_begun or time.monotonic() - at < UNBEGUN_SECONDS
        return publications != self.answers.publications or not waits

    def _read(self) -> Versions:
        with closing(DeploymentReader(self.settings)) as reader:
            cursors = reader.cursors()
            begun = {number: cursor for number, cursor in cursors.items() if cursor is not None}
            for partition, cursor in begun.items():
                missing = {key for key, sha256 in _named(cursor).items() if not self._has(key, sha256)}
                if missing:
                    rows = reader.table(partition)[1]
                    self._contents |= {key: rows[key] for key in missing}
        of = tuple(begun.values()) or (initial_cursor(load_core(self.settings), ""),)
        books = self._contents_of(PRICE_BOOKS, of)
        read: list[PriceBook] = [price_book(each) for each in books]
        return Versions(
            price_books=books,
            plan_catalogs=self._contents_of(PLAN_CATALOGS, of),
            pricing=Pricing(self.settings.rules, books=read, explain=True),
            book_hashes={book.version: book.sha256 for book in read},
            are_begun=len(begun) == len(cursors),
        )

    def _has(self, key: bytes, sha256: str) -> bool:
        return key in self._contents and content_hash(self._contents[key]) == sha256

    def _contents_of(self, kind: Kind, cursors: Iterable[Cursor]) -> tuple[bytes, ...]:
        """Of all partitions: while a publication is being answered, some have it before the others."""
        found = {ref.version: ref.effective_from for cursor in cursors for ref in kind.refs_of(cursor)}
        return tuple(self._contents[kind.key_of(version)] for version in sorted(found, key=found.__getitem__))


def _named(cursor: Cursor) -> dict[bytes, str]:
    """Key of the content → its hash."""
    kinds = (PRICE_BOOKS, PLAN_CATALOGS)
    return {kind.key_of(ref.version): ref.sha256 for kind in kinds for ref in kind.refs_of(cursor)}
