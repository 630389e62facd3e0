"""The account table as the changelog has it: the cursor, and what reconcile needs of every row."""

import json
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, Final

import orjson

from pipeline.reconcile.chain import OVERAGE
from pipeline.reconcile.instants import instant
from pipeline.reconcile.topics import Log
from schemas.topics import changelog

CURSOR: Final = b"__cursor__"
RESERVED: Final = b"__"
"""Keys of the cursor and of published price books and plans; no account's."""


MOVED: Final = ("granted", "used", "expired", "voided", "overage", "reversed", "overage_returned")
"""What a row says of the running period, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    posted: int
    """Micro-credits."""
    left: int
    """The sum over its grants and what holds took from them."""
    held: int
    entry_seq: int
    entry_hash: str
    closed: bool
    period_start: str
    opening: int
    moved: tuple[int, ...]
    """The `MOVED` since the period began."""

    @property
    def overage(self) -> int:
        return self.moved[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One partition's table after its last committed batch, and the input offset that comes next."""

    partition: int
    next_offset: int
    records_read: int
    clock_ms: int
    digest_written: str
    digest_found: str
    rows: dict[str, TableRow]
    versions: dict[str, tuple[str, int]]
    """Of price books and plans by their keys: SHA-256 and, in epoch ms, from when on each counts."""
    contents: dict[str, str]
    """The SHA-256 of published content, computed from its row."""


SCHEDULES: Final = {"price_books": "__price_book__/", "plan_catalogs": "__plan_catalog__/"}
"""The cursor's schedules, and how the keys of their content begin."""


def read_table(log: Log, app_id: str, partition: int) -> Table:
    """Transactions end with the cursor, so what is committed is always the state at the last cursor."""
    newest: dict[bytes, bytes] = {}
    for message in log.messages(changelog(app_id), partition):
        key, value = message.key() or b"", message.value()
        if value is None:
            newest.pop(key, None)
        else:
            newest[key] = value
    cursor: dict[str, Any] = orjson.loads(newest.pop(CURSOR, b'{"next_offset":0}'))
    total = sum(_digest(key, row) for key, row in newest.items()) % 2**128
    return Table(
        partition=partition,
        next_offset=cursor["next_offset"],
        records_read=cursor.get("partition_seq", 0),
        clock_ms=cursor.get("clock_ms", 0),
        digest_written=cursor.get("digest", f"{0:032x}"),
        digest_found=f"{total:032x}",
        rows={key.decode(): _row(row) for key, row in newest.items() if not key.startswith(RESERVED)},
        versions={
            prefix + ref["version"]: (ref["sha256"], ref["effective_from"])
            for name, prefix in SCHEDULES.items()
            for ref in cursor.get(name, ())
        },
        contents={
            key.decode(): _content_hash(row) for key, row in newest.items() if key.startswith(RESERVED)
        },
    )


def _digest(key: bytes, row: bytes) -> int:
    text = str(len(key)).encode() + b":" + key + row
    return int.from_bytes(blake2b(text, digest_size=16).digest(), "big")


def _content_hash(content: bytes) -> str:
    whole = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(whole.encode()).hexdigest()


def _row(row: bytes) -> TableRow:
    fields: dict[str, Any] = orjson.loads(row)
    shares = [share for hold in fields["holds"] for share in hold[2]]  # Its id, its credits, whence they are.
    held = sum(amount for grant_id, amount in shares if grant_id != OVERAGE)
    opening, *moved = fields["totals"]
    return TableRow(
        posted=fields["posted"],
        left=held + sum(grant[-1] for grant in fields["grants"]),  # Its terms, then what is left of it.
        held=held,
        entry_seq=fields["seq"],
        entry_hash=fields["hash"],
        closed=fields["closed"],
        period_start=instant(fields["period"][2]),
        opening=opening,
        moved=tuple(moved) + (0,) * (len(MOVED) - len(moved)),  # Older rows know nothing of reversals.
    )
