"""The rows that ClickHouse holds, next to the records that must be in it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson

from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_STATEMENTS,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    TOPUP_ORDERS,
)

Row: TypeAlias = Sequence[Any]
"""Fields in the order of a `Shape`; the first three are the input offset, the account and what tells rows of
one offset apart."""

_IDENTITY: Final = itemgetter(0, 1, 2)


@dataclass(frozen=True, slots=True)
class Shape:
    """Which fields of a topic's records are compared with the columns of the same name."""

    topic: str
    table: str
    fields: tuple[str, ...]
    event_field: str
    """The field that names the event to a person."""

    def row(self, record: dict[str, Any]) -> Row:
        return [record[name] for name in self.fields]

    def event_id(self, row: Row) -> str:
        return str(row[self.fields.index(self.event_field)])


METERED: Final = Shape(
    METERED_RECORDS,
    "metered_records",
    (
        "offset", "account_id", "event_id", "source", "service", "outcome", "reason", "occurred_at",
        "accepted_at", "channel", "images", "credits", "rated_credits", "price_book", "balance_after",
        "partition_seq", "entry_seq", "first_offset", "receipt", "attributes",
    ),
    "event_id",
)  # fmt: skip
ENTRIES: Final = Shape(
    LEDGER_ENTRIES,
    "ledger_entries",
    (
        "offset", "account_id", "entry_seq", "kind", "credits", "balance_after", "booked_at", "accepted_at",
        "cause_source", "cause_id", "grants", "partition_seq", "previous_hash", "entry_hash",
    ),
    "cause_id",
)  # fmt: skip
STATEMENTS: Final = Shape(
    ACCOUNT_STATEMENTS,
    "account_statements",
    (
        "offset", "account_id", "period_start", "period_end", "plan", "opening", "granted", "used", "expired",
        "voided", "reversed", "overage", "overage_price", "overage_amount",
        "overage_returned", "overage_returns", "currency", "closing", "last_entry_seq",
        "accepted_at", "partition_seq",
    ),
    "period_start",
)  # fmt: skip
ALERTS: Final = Shape(
    ACCOUNT_ALERTS,
    "account_alerts",
    (
        "offset", "account_id", "alert_id", "kind", "threshold", "used", "base", "period_start", "period_end",
        "accepted_at", "partition_seq",
    ),
    "alert_id",
)  # fmt: skip
TOPUPS: Final = Shape(
    TOPUP_ORDERS,
    "topup_orders",
    (
        "offset", "account_id", "order_id", "order_number", "pack", "credits", "price", "currency", "threshold",
        "credits_left", "accepted_at", "partition_seq",
    ),
    "order_id",
)  # fmt: skip
DEAD: Final = Shape(
    DEAD_LETTERS,
    "dead_letters",
    (
        "offset", "account_id", "event_id", "reason", "detail", "pointer", "source", "type", "accepted_at",
        "partition_seq", "key_base64", "payload_base64", "headers",
    ),
    "event_id",
)  # fmt: skip

SHAPES: Final = (METERED, DEAD, ALERTS, TOPUPS, STATEMENTS, ENTRIES)
"""All that is compared row by row."""


def beside(expected: Iterable[Row], found: Iterable[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """Both sides' rows of each input offset. Both must come in the order of offsets."""
    left, right = (groupby(side, key=itemgetter(0)) for side in (expected, found))
    mine, theirs = next(left, None), next(right, None)
    while mine is not None or theirs is not None:
        offset = min(each[0] for each in (mine, theirs) if each is not None)
        wanted: list[Row] = []
        there: list[Row] = []
        if mine is not None and mine[0] == offset:
            wanted = sorted(mine[1], key=_IDENTITY)
            mine = next(left, None)
        if theirs is not None and theirs[0] == offset:
            there = sorted(theirs[1], key=_IDENTITY)
            theirs = next(right, None)
        yield wanted, there


def altered(shape: Shape, expected: Row, found: Row) -> Iterator[tuple[str, Any, Any]]:
    """The fields in which a stored row is not its record."""
    for name, want, have in zip(shape.fields, expected, found, strict=True):
        if want != have and not _same(want, have):
            yield name, want, have


_ABSENT: Final[tuple[Any, ...]] = (None, "", {}, [])


def _same(want: object, have: object) -> bool:
    """Equal in meaning: "8" and "8.000000" are one amount, text of JSON is the object it says."""
    if isinstance(want, dict | list) or want is None:
        return bool(_json(want) == _json(have))
    if isinstance(want, str) and isinstance(have, str):
        try:
            return Decimal(want) == Decimal(have)
        except InvalidOperation:
            return False
    return False


def _json(value: object) -> object:
    if isinstance(value, str) and value:
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return None if value in _ABSENT else value
