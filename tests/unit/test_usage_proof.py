"""A fresh export is accepted; one digit changed anywhere in a line, and that line is named."""

import re
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import orjson
import pytest

from pipeline.bootstrap import price_books
from pipeline.gateway.exports import Source, written
from pipeline.usage_proof import NotAnExportError, canonical, read_export, verify
from tests.unit.test_demo_month import NOWS, folded

ENTRIES_OF_A_SHORT_ONE = 4
BOOKS = {book.version: book for book in price_books()}
HASHES = {version: book.sha256 for version, book in BOOKS.items()}
RECORD = (
    "event_id", "source", "service", "outcome", "reason", "occurred_at", "accepted_at", "channel", "images",
    "credits", "rated_credits", "price_book", "balance_after", "partition", "offset", "entry_seq", "first_offset",
    "receipt",
)  # fmt: skip
ENTRY = (
    "entry_seq", "kind", "credits", "balance_after", "booked_at", "cause_id", "grants", "partition", "offset",
    "previous_hash", "entry_hash",
)  # fmt: skip


TOPICS = ("metered-records", "ledger-entries")


@cache
def exported(account: str, *, short: bool = False) -> bytes:
    """What ClickHouse would have of an account of the demonstration's month; a short one has a record of each outcome
    and the last ledger entries."""
    partition = folded(NOWS[0])
    records, entries = (
        [each for each in partition.of(topic) if each["account_id"] == account] for topic in TOPICS
    )
    first = -ENTRIES_OF_A_SHORT_ONE if short else 0
    opening = entries[first - 1]["balance_after"] if short else "0"
    source = Source(
        head={
            "schema": "creditstream.usage_export.v1",
            "account_id": account,
            "time_zone": "Europe/Berlin",
            "generated_at": "2026-11-28T18:00:00.000+01:00",
            "filters": {"from": None, "to": None, "service": None, "outcome": None, "channel": None},
        },
        zone="Europe/Berlin",
        records=({name: each[name] for name in RECORD} for each in (_of_each(records) if short else records)),
        entries=({name: each[name] for name in ENTRY} for each in entries[first:]),
        opening=opening,
        book_hash=HASHES.get,
    )
    return b"".join(written(source, "json"))


def _of_each(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record of each outcome, and one that went beyond the grants."""
    first: dict[str, dict[str, Any]] = {}
    for record in records:
        paid_by = [share["grant_id"] for share in (record["receipt"] or {"grants": []})["grants"]]
        first.setdefault("overage" if "overage" in paid_by else record["outcome"], record)
    return list(first.values())


def findings(content: bytes) -> list[str]:
    """Where the file differs; a file that cannot be read differs where it cannot."""
    try:
        return [each.where for each in verify(read_export(content), BOOKS)]
    except NotAnExportError as error:
        return [_place(str(error))]


def _place(message: str) -> str:
    """Of a line that is none of an export: `records/3/images: …` is the fourth."""
    kind, _, rest = message.partition("/")
    names = {"records": "record {} ", "entries": "entry line {}"}
    return names[kind].format(int(re.split(r"\D", rest)[0]) + 1) if kind in names else kind


@pytest.mark.parametrize("account", ["demo-team", "demo-shop", "demo-hobby"])
def test_a_fresh_export_is_accepted(account: str) -> None:
    document = read_export(exported(account))
    assert list(verify(document, BOOKS)) == []
    assert document["closing_balance"] == folded(NOWS[0]).balance(account)
    assert len(document["records"]) > 40


def test_an_export_may_begin_in_the_middle_of_the_ledger() -> None:
    document = read_export(exported("demo-shop", short=True))
    assert list(verify(document, BOOKS)) == []
    assert document["opening_balance"] != "0"


def changed_digits(line: bytes, random: Random) -> Iterator[bytes]:
    """The line with one digit changed, for each of its digits."""
    for found in re.finditer(rb"[0-9]", line):
        other = random.choice([each for each in b"0123456789" if each != found[0][0]])
        yield line[: found.start()] + bytes([other]) + line[found.end() :]


@pytest.mark.parametrize("account", ["demo-team", "demo-shop"])
def test_one_digit_changed_in_a_record_names_this_record(account: str) -> None:
    content, random = exported(account, short=True), Random(8)
    for number, record in enumerate(read_export(content)["records"], 1):
        line = orjson.dumps(record)
        assert content.count(line) == 1
        for other in changed_digits(line, random):
            named = findings(content.replace(line, other))
            assert any(each.startswith(f"record {number} ") for each in named), other


def test_one_digit_changed_in_an_entry_names_this_entry() -> None:
    content, random = exported("demo-hobby", short=True), Random(8)
    for number, entry in enumerate(read_export(content)["entries"], 1):
        line = orjson.dumps(entry)
        for other in changed_digits(line, random):
            changed = orjson.loads(other)["entry_seq"]
            named = findings(content.replace(line, other))
            assert {f"entry {entry['entry_seq']}", f"entry {changed}", f"entry line {number}"} & set(named), (
                other
            )


def test_one_digit_changed_elsewhere_is_a_difference() -> None:
    content, random = exported("demo-hobby", short=True), Random(8)
    head, records = content.split(b',"records":', 1)
    tail = records[records.rindex(b',"totals"') :]
    for part in (head, tail):
        for other in changed_digits(part, random):
            assert findings(content.replace(part, other)), other


def test_a_line_that_was_taken_out_is_a_difference() -> None:
    document = read_export(exported("demo-hobby"))
    for name in ("records", "entries"):
        short = {**document, name: document[name][:10] + document[name][11:]}
        assert findings(orjson.dumps(short))[0].startswith({"records": "record 11", "entries": "entry"}[name])


def test_forged_hashes_do_not_hide_a_wrong_price() -> None:
    """Whoever computes all hashes anew still has to explain the price and the balance."""
    document = read_export(exported("demo-hobby"))
    record = document["records"][4]
    record["credits"] = record["rated_credits"] = "2"
    assert {each.what for each in verify(document, BOOKS)} >= {"rated_credits", "receipt/grants", "entry 6"}


def test_a_charge_without_its_receipt_is_a_difference() -> None:
    document = read_export(exported("demo-hobby"))
    document["records"][4]["receipt"] = None
    assert [each.what for each in verify(document, BOOKS)] == ["receipt", "hash"]


def test_a_price_book_that_nobody_has_is_said() -> None:
    [finding, *_] = verify(read_export(exported("demo-hobby")), {})
    assert (finding.where, finding.what) == (f"record 1 ({NAME})", "price_book")


NAME = "demo-hobby-01"


def test_what_the_hash_is_over_does_not_depend_on_white_space() -> None:
    document = read_export(exported("demo-hobby"))
    assert list(verify(read_export(orjson.dumps(document, option=orjson.OPT_INDENT_2)), BOOKS)) == []
    assert canonical({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


def test_csv_keeps_its_columns() -> None:
    source = Source(
        head={}, zone="UTC", records=iter(()), entries=iter(()), opening="0", book_hash=HASHES.get
    )
    assert b"".join(written(source, "csv")) == (
        b"event_id,source,service,outcome,reason,occurred_at,accepted_at,channel,images,credits,rated_credits,"
        b"price_book,balance_after,partition,offset\r\n"
    )
