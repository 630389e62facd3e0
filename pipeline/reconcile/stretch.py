"""A stretch of one partition's log, compared as `partition.py` does it, from the records that answer it alone.

A stretch ends before the first cause of which something is not stored, so a lag is never a difference. What goes before
it is asked of ClickHouse, account by account: nothing is remembered from one stretch to the next. What only the whole
shows (the table's digest, statements against all their entries, the rollup) is left to `creditstream reconcile`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.kafka import Message
from pipeline.reconcile.alerts import Alerts
from pipeline.reconcile.chain import FIRST_HASH, Chains, Link, micros
from pipeline.reconcile.partition import PartitionCheck
from pipeline.reconcile.progress import STORED_TOPICS, PartitionProgress
from pipeline.reconcile.report import Difference, Findings, Kind
from pipeline.reconcile.statements import Statements
from pipeline.reconcile.stored import ALERTS, DEAD, ENTRIES, METERED, STATEMENTS, TOPUPS
from pipeline.reconcile.table import Table
from pipeline.reconcile.topics import Log
from pipeline.reconcile.topups import Topups
from pipeline.reconcile.warehouse import Warehouse
from schemas.topics import ACCOUNT_BALANCES, ACCOUNT_EVENTS, COMMAND_RESULTS, LEDGER_ENTRIES

OUTCOME_TOPICS: Final = (*STORED_TOPICS, COMMAND_RESULTS)
INPUTS_MAX: Final = 200_000
"""Offsets of a stretch, most of which may be ticks that brought nothing."""
_NOTHING: Final = Link(0, FIRST_HASH, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The input offsets [since, before), and all records whose cause is in it, by topic."""

    partition: int
    since: int
    before: int
    records: Mapping[str, list[dict[str, Any]]]


def read_stretch(log: Log, progress: PartitionProgress, since: int, *, records_max: int) -> Stretch:
    """As much from `since` on as is answered and stored, at most about `records_max` records of a topic."""
    partition, before = progress.partition, min(progress.stored_before, since + INPUTS_MAX)
    records: dict[str, list[dict[str, Any]]] = {}
    first = log.first(ACCOUNT_EVENTS, partition, since) if since < before else None
    if first is None:
        return Stretch(partition=partition, since=since, before=since, records=records)
    # Outcomes bear the time of their input, or the partition's clock, which is never behind it.
    starts = log.offsets_at(OUTCOME_TOPICS, partition, first.timestamp()[1])
    for topic, start in starts.items():
        records[topic], ends_before = _read(
            log.messages(topic, partition, start=start), since, before, records_max
        )
        before = min(before, ends_before)
    return Stretch(
        partition=partition,
        since=since,
        before=max(before, since),
        records={
            topic: [each for each in read if each["offset"] < before] for topic, read in records.items()
        },
    )


def _read(
    messages: Iterable[Message], since: int, before: int, records_max: int
) -> tuple[list[dict[str, Any]], int]:
    """Records of one topic, and the cause of the first that was not taken."""
    taken: list[dict[str, Any]] = []
    for message in messages:
        record: dict[str, Any] = orjson.loads(message.value() or b"{}")
        cause = int(record["offset"])
        if cause < since and not taken:
            continue  # Of the stretch before.
        if cause >= before or (len(taken) >= records_max and cause > taken[-1]["offset"]):
            return taken, cause
        taken.append(record)
    return taken, before


@dataclass(slots=True)
class StretchCheck(PartitionCheck):
    """Compares one stretch; differences go to `findings`."""

    records: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    starts: Mapping[str, int] = field(default_factory=dict[str, int])
    """By topic the first offset that the broker still holds."""

    def compare(self) -> None:
        self._read_input(self.since)
        self._compare(METERED, self._metered)
        self._compare(DEAD, self._dead_letter)
        self._compare(ALERTS, Alerts(findings=self.findings).read)
        topups = Topups(partition=self.table.partition, findings=self.findings, whole=False)
        self._compare(TOPUPS, topups.read)
        self._read_results()
        statements = Statements(
            partition=self.table.partition, findings=self.findings, whole=False, entries_whole=False
        )
        self._compare(STATEMENTS, statements.read)
        links = self._links()
        chains = Chains(self.findings, whole=self._is_whole(LEDGER_ENTRIES), newest=dict(links))
        self._compare(ENTRIES, lambda entry: self._entry(chains, statements, topups, entry))
        self._check_answers()
        self._check_balances(links)
        self._check_stored_balances()

    def _is_whole(self, topic: str) -> bool:
        return self.starts[topic] == 0

    def _records(self, topic: str) -> Iterable[dict[str, Any]]:
        return self.records.get(topic, ())

    def _links(self) -> dict[str, Link]:
        """The newest entry before the stretch, of each account in it."""
        named = {
            each["account_id"] for topic in (ENTRIES.topic, ACCOUNT_BALANCES) for each in self._records(topic)
        }
        if not named:
            return {}
        found = self.warehouse.links(self.table.partition, sorted(named), self.since)
        return {
            account: Link(seq, entry_hash, micros(balance)) for account, seq, entry_hash, balance in found
        }

    def _check_balances(self, newest: dict[str, Link]) -> None:
        """Each balance in Kafka is what the account's entries came to where it was said. `newest`: before the stretch.

        A batch says one balance of an account, of its last change, so where a stretch cuts a batch the balance of an
        entry may stand behind the cut: that entries without a balance have one is not looked at here.
        """
        entries = iter(self._records(ENTRIES.topic))
        entry = next(entries, None)
        for record in self._records(ACCOUNT_BALANCES):
            while entry is not None and entry["offset"] <= record["offset"]:
                balance = micros(entry["balance_after"])
                newest[entry["account_id"]] = Link(entry["entry_seq"], entry["entry_hash"], balance)
                entry = next(entries, None)
            posted, seq = micros(record["posted"]), record["entry_seq"]
            link = newest.get(record["account_id"], _NOTHING)
            if (posted, seq) != (link.balance, link.entry_seq):
                wanted = f"{link.balance} after entry {link.entry_seq}"
                self._differ_balance(record, ACCOUNT_BALANCES, wanted, f"{posted} after entry {seq}")

    def _check_stored_balances(self) -> None:
        """The newest balance of each account in the stretch stands in ClickHouse, or a later one."""
        balances = {each["account_id"]: each for each in self._records(ACCOUNT_BALANCES)}
        rows = self.warehouse.balances(self.table.partition, sorted(balances)) if balances else ()
        stored = {account: fields for account, *fields in rows}
        for account, record in balances.items():
            amounts = [micros(record[name]) for name in ("posted", "held", "overage")]
            *found, seq, offset = stored.get(account, [0, 0, 0, 0, -1])
            wanted, there = [*amounts, record["entry_seq"]], [*(micros(str(each)) for each in found), seq]
            if offset < self.table.next_offset and wanted != there:
                self._differ_balance(record, "account_balances", str(wanted), str(there))

    def _differ_balance(self, record: dict[str, Any], where: str, expected: str, found: str) -> None:
        name = (str(record["account_id"]), "")
        self._differ(Kind.BALANCE_DIFFERS, where, record["offset"], name, expected, found)


def compare_stretch(log: Log, warehouse: Warehouse, stretch: Stretch) -> list[Difference]:
    """What differs in it."""
    findings = Findings()
    table = Table(
        partition=stretch.partition,
        next_offset=stretch.before,
        records_read=0,
        clock_ms=0,
        digest_written="",
        digest_found="",
        rows={},
        versions={},
        contents={},
    )
    starts = log.starts_of(OUTCOME_TOPICS, stretch.partition)
    check = StretchCheck(
        log, table, warehouse, findings, since=stretch.since, records=stretch.records, starts=starts
    )
    check.compare()
    return findings.listed
