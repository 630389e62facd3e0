"""A usage export proves itself: the hashes that are written into it, and the check that recomputes every line offline.

The check needs the file and its price books and nothing else: no server, no clock. It prices each record again from its
receipt's inputs, follows the balance through the ledger entries, and names each line that does not come out the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from pipeline.domain.credits import Credits, format_credits, parse_credits
from pipeline.domain.instants import parse_instant
from pipeline.domain.price_book import PriceBook
from pipeline.domain.rating import Unrated, rate
from pipeline.evidence import usage_of
from pipeline.validate_data import Fault
from schemas.usage_export import UsageExport

FIRST_HASH: Final = "0" * 32
OVERAGE: Final = "overage"
HEAD: Final = ("schema", "account_id", "time_zone", "generated_at", "filters")
TAIL: Final = ("totals", "opening_balance", "closing_balance", "price_books")
EXPLAINED: Final = frozenset({"metered", "denied", "rerated"})
"""Outcomes that have a receipt."""
Row = Mapping[str, Any]


class NotAnExportError(ValueError):
    """The file is no usage export that carries its own proof."""


class Finding(NamedTuple):
    """One line that does not come out the same."""

    where: str
    """`record 3 (event_id)`, `entry 17`, `totals`, … as they are counted in the file, from 1."""
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: expected {self.expected}, found {self.found}"


def canonical(value: object) -> bytes:
    """The same bytes for the same content."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def record_hash(previous: str, record: Row) -> str:
    """The hash of a record, which has none yet, behind the record with the hash `previous`."""
    return blake2b(previous.encode() + canonical(record), digest_size=16).hexdigest()


@dataclass(slots=True)
class DocumentHash:
    """Collects what a file says, in its order."""

    _digest: Any = field(default_factory=sha256)

    def head(self, head: Row) -> None:
        self._line(canonical({name: head[name] for name in HEAD}))

    def line(self, line_hash: str) -> None:
        """Of a record or an entry."""
        self._line(line_hash.encode())

    def tail(self, tail: Row) -> str:
        """The end: the hash of all of it."""
        for name in TAIL:
            self._line(canonical(tail[name]))
        return str(self._digest.hexdigest())

    def _line(self, line: bytes) -> None:
        self._digest.update(line + b"\n")


@dataclass
class Totals:
    """Of the records that are in a file, so that both always agree."""

    services: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def add(self, row: Row) -> None:
        total = self.services.setdefault(row["service"], dict.fromkeys(_COUNTED, 0))
        total[_COUNTED_AS[row["outcome"]]] += 1
        total["images"] += row["images"] if row["outcome"] == "metered" else 0
        total["credits"] += parse_credits(row["credits"])

    def written(self) -> dict[str, Any]:
        return {
            service: {**total, "credits": format_credits(total["credits"])}
            for service, total in sorted(self.services.items())
        }


_COUNTED_AS: Final = {
    "metered": "metered",
    "denied": "denied",
    "duplicate": "duplicates",
    "reversed": "corrections",
    "rerated": "corrections",
}
_COUNTED: Final = ("metered", "denied", "duplicates", "corrections", "images", "credits")


def read_export(content: bytes) -> dict[str, Any]:
    """The document. Raises NotAnExportError, which says where the file is not one."""
    try:
        document: dict[str, Any] = orjson.loads(content)
        UsageExport.model_validate_json(content)
    except orjson.JSONDecodeError as error:
        raise NotAnExportError(f"{_place_of(content, error.pos)}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(map(str, first["loc"])) or "the whole"
        raise NotAnExportError(f"{place}: {first['msg']}") from error
    return document


def _place_of(content: bytes, position: int) -> str:
    """The line in which the JSON breaks, found by what each line ends with."""
    before = content.decode(errors="replace")[:position]
    for name, last in (("entries", '"entry_hash":'), ("records", '"hash":')):
        _, found, lines = before.partition(f'"{name}":')
        if found:
            return f"{name}/{lines.count(last)}"
    return "the whole"


def verify(document: Row, books: Mapping[str, PriceBook]) -> Iterator[Finding]:
    """Every line that differs from what it is made of; nothing when the export is right."""
    entries = {entry["entry_seq"]: entry for entry in document["entries"]}
    previous = FIRST_HASH
    for number, record in enumerate(document["records"], 1):
        where = f"record {number} ({record['event_id']})"
        yield from _readable(where, _record(where, document["account_id"], record, books, entries))
        bare = {name: value for name, value in record.items() if name != "hash"}
        yield from _same(where, "hash", record_hash(previous, bare), record["hash"])
        previous = record["hash"]
    yield from _readable("entries", _entries(document))
    yield from _readable("totals", _whole(document, books))


def _record(
    where: str, account: str, record: Row, books: Mapping[str, PriceBook], entries: Mapping[int, Row]
) -> Iterator[Finding]:
    receipt = record["receipt"]
    if record["outcome"] in {"denied", "duplicate"}:
        yield from _same(where, "credits", "0", record["credits"])
    if receipt is None:
        if record["outcome"] in EXPLAINED:
            yield Finding(where, "receipt", "one", "none")
        return
    yield from _price(where, {**record, "account_id": account}, books)
    yield from _same(where, "receipt/images", record["images"] or receipt["images"], receipt["images"])
    if record["outcome"] == "metered":
        yield from _same(where, "credits", record["rated_credits"], record["credits"])
        yield from _payment(where, record, receipt)
        entry = entries.get(record["entry_seq"])
        if entry is not None:  # Else it is beside the asked time, or was stored a moment after the record.
            paid = (entry["credits"], entry["balance_after"], entry["offset"])
            charge = (_negated(record["credits"]), record["balance_after"], record["offset"])
            yield from _same(where, f"entry {record['entry_seq']}", paid, charge)


def _price(where: str, record: Row, books: Mapping[str, PriceBook]) -> Iterator[Finding]:
    receipt, book = record["receipt"], books.get(record["price_book"])
    if book is None:
        yield Finding(where, "price_book", f"one of {', '.join(sorted(books))}", record["price_book"])
        return
    rated = rate(usage_of({**record, "attributes": {}}), book)
    if isinstance(rated, Unrated):
        yield Finding(where, "receipt/inputs", "inputs that the price book has a price for", rated.detail)
        return
    yield from _same(where, "rated_credits", format_credits(rated.credits), record["rated_credits"])
    each = format_credits(rated.image.credits)
    yield from _same(where, "receipt/credits_per_image", each, receipt["credits_per_image"])
    steps = [
        {
            "rule": step.rule,
            "detail": step.detail,
            "credits_per_image": format_credits(step.credits_per_image),
        }
        for step in rated.image.steps
    ]
    yield from _same(where, "receipt/steps", steps, receipt["steps"])


def _payment(where: str, record: Row, receipt: Row) -> Iterator[Finding]:
    given = {share["grant_id"]: parse_credits(share["credits"]) for share in receipt["grants"]}
    yield from _same(where, "receipt/grants", record["credits"], format_credits(sum(given.values())))
    after = (
        parse_credits(receipt["balance_before"]) + given.get(OVERAGE, 0) - parse_credits(record["credits"])
    )
    yield from _same(where, "receipt/balance_after", format_credits(after), receipt["balance_after"])
    yield from _same(where, "balance_after", receipt["balance_after"], record["balance_after"])


def _entries(document: Row) -> Iterator[Finding]:
    balance, previous = parse_credits(document["opening_balance"]), None
    for entry in document["entries"]:
        where = f"entry {entry['entry_seq']}"
        balance = Credits(balance + parse_credits(entry["credits"]))
        if previous is not None:
            yield from _same(where, "entry_seq", previous["entry_seq"] + 1, entry["entry_seq"])
            yield from _same(where, "previous_hash", previous["entry_hash"], entry["previous_hash"])
        yield from _same(where, "balance_after", format_credits(balance), entry["balance_after"])
        yield from _readable(where, _entry_hashes(where, document["account_id"], entry))
        balance, previous = parse_credits(entry["balance_after"]), entry
    yield from _same("closing_balance", "amount", format_credits(balance), document["closing_balance"])


def _entry_hashes(where: str, account: str, entry: Row) -> Iterator[Finding]:
    yield from _same(where, "entry_hash", _entry_hash(account, entry), entry["entry_hash"])


def _entry_hash(account: str, entry: Row) -> str:
    """As `schemas/ledger_entry.py` documents it."""
    amount = parse_credits(entry["credits"])
    sign = -1 if amount < 0 else 1
    lines = (
        entry["previous_hash"],
        account,
        entry["entry_seq"],
        entry["kind"],
        amount,
        parse_credits(entry["balance_after"]),
        parse_instant(entry["booked_at"]),
        entry["partition"],
        entry["offset"],
        entry["cause_id"],
        ",".join(f"{each['grant_id']}:{sign * parse_credits(each['credits'])}" for each in entry["grants"]),
    )
    return blake2b("\n".join(map(str, lines)).encode(), digest_size=16).hexdigest()


def _whole(document: Row, books: Mapping[str, PriceBook]) -> Iterator[Finding]:
    totals = Totals()
    for record in document["records"]:
        totals.add(record)
    yield from _same("totals", "of the records", totals.written(), document["totals"])
    named = sorted({record["price_book"] for record in document["records"]} - {""})
    yield from _same("price_books", "versions", named, [each["version"] for each in document["price_books"]])
    for each in document["price_books"]:
        book = books.get(each["version"])
        if book is not None and each["sha256"] is not None:
            yield from _same(f"price book {each['version']}", "sha256", book.sha256, each["sha256"])
    digest = DocumentHash()
    digest.head(document)
    for line in _hashes(document):
        digest.line(line)
    yield from _same("document", "sha256", digest.tail(document), document["sha256"])


def _hashes(document: Row) -> Iterable[str]:
    yield from (record["hash"] for record in document["records"])
    yield from (entry["entry_hash"] for entry in document["entries"])


def _readable(where: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """A value that no rule can read is a difference of its line."""
    try:
        yield from findings
    except (ValueError, Fault) as error:
        yield Finding(where, "value", "one that can be read", str(error))


def _same(where: str, what: str, expected: object, found: object) -> Iterator[Finding]:
    if expected != found:
        yield Finding(where, what, str(expected), str(found))


def _negated(amount: str) -> str:
    return format_credits(-parse_credits(amount))
