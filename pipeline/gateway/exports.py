"""Usage as a file, written while it is read: JSON (`usage_export.v1`), NDJSON or CSV. Any length in bounded memory."""

import csv
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from pipeline.clickhouse import Client
from pipeline.gateway.times import in_zone
from pipeline.query import pages
from pipeline.query.accounts import BEGINNING, END
from pipeline.query.pages import Filters
from pipeline.usage_proof import FIRST_HASH, DocumentHash, Totals, record_hash

Format = Literal["json", "ndjson", "csv"]
MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
CHUNK_RECORDS: Final = 500
COLUMNS: Final = (
    "event_id", "source", "service", "outcome", "reason", "occurred_at", "accepted_at", "channel", "images",
    "credits", "rated_credits", "price_book", "balance_after", "partition", "offset",
)  # fmt: skip
"""Of CSV: what a spreadsheet can hold. JSON and NDJSON have all of `ExportedRecord`."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would compute. Ids are the producers' words, so such a cell gets an apostrophe before it."""
_TEXTS: Final = frozenset({"event_id", "source"})
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a file is made of. Only JSON has more than the records."""

    head: Mapping[str, Any]
    """What stands before the records."""
    zone: str
    records: Iterator[Row]
    entries: Iterator[Row]
    opening: str
    """Posted credits before the first entry."""
    book_hash: Callable[[str], str | None]
    """SHA-256 of a price book's content, where it is known."""


def written(source: Source, form: Format) -> Generator[bytes, None, None]:
    """The file in pieces."""
    records = _hashed(_zoned(row, source.zone) for row in source.records)
    match form:
        case "json":
            yield from _json(records, source)
        case "ndjson":
            yield from _chunks(records, lambda each: b"".join([orjson.dumps(row) + b"\n" for row in each]))
        case "csv":
            yield _csv([dict(zip(COLUMNS, COLUMNS, strict=True))])
            yield from _chunks(records, _csv)


def export_source(
    client: Client,
    account: str,
    filters: Filters,
    zone: str,
    *,
    generated_at: str,
    book_hash: Callable[[str], str | None],
) -> Source:
    """What ClickHouse has of an account's usage."""
    since = None if filters.since == BEGINNING else in_zone(filters.since, zone)
    until = None if filters.until == END else in_zone(filters.until, zone)
    asked = {name: getattr(filters, name) or None for name in ("service", "outcome", "channel")}
    head = {
        "schema": "creditstream.usage_export.v1",
        "account_id": account,
        "time_zone": zone,
        "generated_at": in_zone(generated_at, zone),
        "filters": {"from": since, "to": until, **asked},
    }
    return Source(
        head=head,
        zone=zone,
        records=pages.usage_stream(client, account, filters),
        entries=pages.entry_stream(client, account, filters),
        opening=pages.posted_before(client, account, filters.since),
        book_hash=book_hash,
    )


def _hashed(rows: Iterator[Row]) -> Iterator[Row]:
    previous = FIRST_HASH
    for row in rows:
        previous = record_hash(previous, row)
        yield {**row, "hash": previous}


def _zoned(row: Row, zone: str) -> Row:
    return {
        **row,
        "occurred_at": in_zone(row["occurred_at"], zone),
        "accepted_at": in_zone(row["accepted_at"], zone),
    }


def _json(records: Iterator[Row], source: "Source") -> Iterator[bytes]:
    totals, digest, books = Totals(), DocumentHash(), set[str]()
    digest.head(source.head)

    def counted() -> Iterator[Row]:
        for row in records:
            totals.add(row)
            books.update({row["price_book"]} - {""})
            digest.line(row["hash"])
            yield row

    yield orjson.dumps(dict(source.head))[:-1] + b',"records":['
    yield from _list(counted())
    yield b'],"entries":['
    balance = source.opening

    def followed() -> Iterator[Row]:
        nonlocal balance
        for row in source.entries:
            balance = row["balance_after"]
            digest.line(row["entry_hash"])
            yield {**row, "booked_at": in_zone(row["booked_at"], source.zone)}

    yield from _list(followed())
    tail = {
        "totals": totals.written(),
        "opening_balance": source.opening,
        "closing_balance": balance,
        "price_books": [{"version": each, "sha256": source.book_hash(each)} for each in sorted(books)],
    }
    yield b"]," + orjson.dumps({**tail, "sha256": digest.tail(tail)})[1:]


def _list(rows: Iterator[Row]) -> Iterator[bytes]:
    separator = b""

    def lines(each: list[Row]) -> bytes:
        nonlocal separator
        text = separator + b",".join([orjson.dumps(row) for row in each])
        separator = b","
        return text

    yield from _chunks(rows, lines)


def _chunks(rows: Iterator[Row], lines: Callable[[list[Row]], bytes]) -> Iterator[bytes]:
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == CHUNK_RECORDS:
            yield lines(waiting)
            waiting = []
    if waiting:
        yield lines(waiting)


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # RFC 4180.
    for row in rows:
        writer.writerow([_cell(name, row[name]) for name in COLUMNS])
    return text.getvalue().encode()


def _cell(name: str, value: object) -> object:
    return f"'{value}" if name in _TEXTS and str(value).startswith(_FORMULA) else value
