"""Usage as a file, written while it is read: JSON (`usage_export.v1`), NDJSON or CSV. Any length in bounded memory."""

import csv
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from pipeline.domain.credits import format_credits, parse_credits
from pipeline.gateway.times import in_zone
from schemas.usage_export import ExportedRecord

Format = Literal["json", "ndjson", "csv"]
MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}
CHUNK_RECORDS: Final = 500
COLUMNS: Final = tuple(ExportedRecord.model_fields)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would compute. Ids are the producers' words, so such a cell gets an apostrophe before it."""
_TEXTS: Final = frozenset({"event_id", "source"})
_COUNTED_AS: Final = {
    "metered": "metered",
    "denied": "denied",
    "duplicate": "duplicates",
    "reversed": "corrections",
    "rerated": "corrections",
}
_COUNTED: Final = ("metered", "denied", "duplicates", "corrections", "images", "credits")
Row = dict[str, Any]


def written(
    rows: Iterator[Row], form: Format, zone: str, head: Mapping[str, Any]
) -> Generator[bytes, None, None]:
    """The file in pieces. `head`: what stands before the records of JSON."""
    zoned = (_zoned(row, zone) for row in rows)
    match form:
        case "json":
            yield from _json(zoned, head)
        case "ndjson":
            yield from _chunks(zoned, lambda each: b"".join([orjson.dumps(row) + b"\n" for row in each]))
        case "csv":
            yield _csv([dict(zip(COLUMNS, COLUMNS, strict=True))])
            yield from _chunks(zoned, _csv)


def _zoned(row: Row, zone: str) -> Row:
    return {
        **row,
        "occurred_at": in_zone(row["occurred_at"], zone),
        "accepted_at": in_zone(row["accepted_at"], zone),
    }


def _json(rows: Iterator[Row], head: Mapping[str, Any]) -> Iterator[bytes]:
    totals = _Totals()
    yield orjson.dumps(dict(head))[:-1] + b',"records":['
    separator = b""

    def lines(each: list[Row]) -> bytes:
        nonlocal separator
        totals.add(each)
        text = separator + b",".join([orjson.dumps(row) for row in each])
        separator = b","
        return text

    yield from _chunks(rows, lines)
    yield b'],"totals":' + orjson.dumps(totals.written()) + b"}"


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


@dataclass
class _Totals:
    """Of the records that were written, so that both always agree."""

    services: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            total = self.services.setdefault(row["service"], dict.fromkeys(_COUNTED, 0))
            total[_COUNTED_AS[row["outcome"]]] += 1
            total["images"] += row["images"] if row["outcome"] == "metered" else 0
            total["credits"] += parse_credits(row["credits"])

    def written(self) -> dict[str, Any]:
        return {
            service: {**total, "credits": format_credits(total["credits"])}
            for service, total in sorted(self.services.items())
        }
