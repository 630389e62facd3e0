"""One amount in five places: the entries' sum, the table's row and its grants, the topic and ClickHouse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from pipeline.reconcile.chain import FIRST_HASH, Link, micros
from pipeline.reconcile.report import Difference, Findings, Kind
from pipeline.reconcile.table import Table
from pipeline.reconcile.topics import Log
from pipeline.reconcile.warehouse import Warehouse
from schemas.topics import ACCOUNT_BALANCES


@dataclass(frozen=True, slots=True)
class _Balance:
    posted: int
    """Micro-credits, as is what is held and the period's overage."""
    held: int
    overage: int
    entry_seq: int


@dataclass(frozen=True, slots=True)
class _Places:
    """What readers are shown: newest balance by account, and who has moved on since the watermark."""

    where: str
    newest: Mapping[str, _Balance]
    moved_on: frozenset[str]


_NOTHING: Final = _Balance(0, 0, 0, 0)


def check_balances(
    log: Log, table: Table, warehouse: Warehouse, newest: Mapping[str, Link], findings: Findings
) -> None:
    """Compare the end of each account's chain with its row, and the row with what readers see."""
    if table.digest_written != table.digest_found:
        findings.add(
            _difference(Kind.TABLE_DIGEST, table, "changelog", "", table.digest_written, table.digest_found)
        )
    for account in sorted(table.rows.keys() | newest.keys()):
        row, entered = table.rows.get(account), newest.get(account, Link(0, FIRST_HASH, 0))
        # Whoever has no row must have no entries.
        found = Link(0, FIRST_HASH, 0) if row is None else Link(row.entry_seq, row.entry_hash, row.posted)
        if found != entered:
            findings.add(_difference(Kind.BALANCE_DIFFERS, table, "changelog", account, entered, found))
        elif row is not None and row.left != row.posted:
            wanted, left = f"grants and holds of {row.posted}", f"grants and holds of {row.left}"
            findings.add(_difference(Kind.BALANCE_DIFFERS, table, "changelog", account, wanted, left))
    for places in (_in_topic(log, table), _in_warehouse(warehouse, table)):
        _check_readers(table, places, findings)


def _check_readers(table: Table, places: _Places, findings: Findings) -> None:
    for account in sorted((table.rows.keys() | places.newest.keys()) - places.moved_on):
        row, found = table.rows.get(account), places.newest.get(account)
        expected = _NOTHING if row is None else _Balance(row.posted, row.held, row.overage, row.entry_seq)
        if found != expected:
            findings.add(_difference(Kind.BALANCE_DIFFERS, table, places.where, account, expected, found))


def _difference(
    kind: Kind, table: Table, where: str, account: str, expected: object, found: object
) -> Difference:
    return Difference(
        kind=kind,
        where=where,
        partition=table.partition,
        offset=-1,
        account_id=account,
        event_id="",
        expected=str(expected),
        found=str(found),
    )


def _in_topic(log: Log, table: Table) -> _Places:
    newest: dict[str, _Balance] = {}
    later: set[str] = set()
    for message in log.messages(ACCOUNT_BALANCES, table.partition):
        record = orjson.loads(message.value() or b"{}")
        if record["offset"] < table.next_offset:
            newest[record["account_id"]] = _Balance(
                micros(record["posted"]),
                micros(record["held"]),
                micros(record["overage"]),
                record["entry_seq"],
            )
        else:
            later.add(record["account_id"])
    # Compaction may have removed what an account that moved on had before the watermark.
    return _Places(ACCOUNT_BALANCES, newest, frozenset(later - newest.keys()))


def _in_warehouse(warehouse: Warehouse, table: Table) -> _Places:
    newest: dict[str, _Balance] = {}
    later: set[str] = set()
    for account, posted, held, overage, entry_seq, offset in warehouse.balances(table.partition):
        if offset < table.next_offset:
            newest[account] = _Balance(micros(posted), micros(held), micros(overage), entry_seq)
        else:
            later.add(account)
    return _Places("account_balances", newest, frozenset(later))
