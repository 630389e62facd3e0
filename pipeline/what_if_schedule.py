"""The schedule of a partition as it was, and with another version in one place: for the two runs of a what-if."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import orjson

from pipeline.domain.instants import Instant, format_instant
from pipeline.domain.schedules import lost_plan
from pipeline.published import canonical, plan_catalog
from pipeline.state import BUNDLED, Cursor, VersionRef, plan_catalog_key, price_book_key

ADDED: Final = "what-if"
"""The name of a version that stands beside those that were published."""


class NotComparableError(Exception):
    """The version cannot take that place in the schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Another price book or plan catalogue (`is_plans`) in the schedule: in the place of the version `replaces`, or
    beside all that there are, from `since` on until the next one takes force."""

    content: Mapping[str, Any]
    is_plans: bool
    replaces: str
    since: Instant | None


class Live(NamedTuple):
    """What the live table says of one partition."""

    partition: int
    cursor: Cursor
    published: Mapping[bytes, bytes]


def as_begun(live: Live) -> dict[bytes, bytes]:
    """What the partition began with; the rest was published in the log."""
    books, catalogs = live.cursor.price_books, live.cursor.plan_catalogs
    keys = [price_book_key(ref.version) for ref in books if ref.offset == BUNDLED]
    keys += [plan_catalog_key(ref.version) for ref in catalogs if ref.offset == BUNDLED]
    return {key: live.published[key] for key in keys}


def changed(live: Live, changes: Sequence[Change]) -> dict[bytes, bytes]:
    """The whole schedule of today with the changes, from the first record on. Nobody sees a version before it takes
    force, and what the log publishes is there already, so that it changes nothing."""
    books = [_Version(ref, price_book_key, live.published) for ref in live.cursor.price_books]
    catalogs = [_Version(ref, plan_catalog_key, live.published) for ref in live.cursor.plan_catalogs]
    for change in changes:
        _put(change, catalogs if change.is_plans else books)
    for before, after in pairwise(sorted(catalogs, key=lambda each: each.effective_from)):
        _require_plans(before.content, after.content)
    return {each.key: each.content for each in (*books, *catalogs)}


def _require_plans(before: bytes, after: bytes) -> None:
    """An account may be on any of the plans before."""
    lost = lost_plan(plan_catalog(before), plan_catalog(after))
    if lost is not None:
        raise NotComparableError(lost.detail)


class _Version:
    """One version of a schedule, to be changed."""

    def __init__(
        self, ref: VersionRef, key_of: Callable[[str], bytes], published: Mapping[bytes, bytes]
    ) -> None:
        self.version, self.effective_from, self.key_of = ref.version, ref.effective_from, key_of
        self.key = key_of(ref.version)
        self.content = published[self.key]


def _put(change: Change, schedule: list[_Version]) -> None:
    if change.since is not None:
        newest = schedule[-1]
        ref = VersionRef(version=ADDED, sha256="", effective_from=change.since, offset=BUNDLED)
        own = {"version": ADDED, "effective_from": format_instant(change.since)}
        content = canonical(orjson.dumps({**change.content, **own}))
        schedule.append(_Version(ref, newest.key_of, {newest.key_of(ADDED): content}))
        return
    for each in schedule:
        if each.version == change.replaces:
            was = orjson.loads(each.content)
            own = {name: was[name] for name in ("version", "effective_from")}
            content = canonical(orjson.dumps({**change.content, **own}))
            if change.is_plans:
                _require_plans(each.content, content)
            each.content = content
            return
    known = ", ".join(each.version for each in schedule)
    raise NotComparableError(f"expected to replace one of {known}, got {change.replaces!r}")
