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
    places: Mapping[str, int]
    """Where on each topic that was read the first record stands that is caused by `before` or later."""


def read_stretch(
    log: Log, progress: PartitionProgress, since: int, places: Mapping[str, int], *, records_max: int
) -> Stretch:
    """As much from `since` on as is answered and stored, at most about `records_max` records of a topic.

    `places`: where on each topic what is caused by `since` or later begins, as far as that is known.
    """
    partition, before = progress.partition, min(progress.stored_before, since + INPUTS_MAX)
    first = log.first(ACCOUNT_EVENTS, partition, since) if since < before else None
    if first is None:
        return Stretch(partition=partition, since=since, before=since, records={}, places=places)
    # Outcomes bear the time of their input, or the partition's clock, which is never behind it. But the marker of a
    # transaction bears the time of its commit, and may be found long before them.
    unknown = [topic for topic in OUTCOME_TOPICS if topic not in places]
    starts = {**places, **log.offsets_at(unknown, partition, first.timestamp()[1])}
    read: dict[str, _Read] = {}
    for topic, start in starts.items():
        read[topic] = _read(log.messages(topic, partition, start=start), start, since, before, records_max)
        before = min(before, read[topic].ends_before)
    before = max(before, since)
    return Stretch(
        partition=partition,
        since=since,
        before=before,
        records={
            topic: [each for each in taken.records if each["offset"] < before]
            for topic, taken in read.items()
        },
        places={topic: taken.place_of(before) for topic, taken in read.items()},
    )


@dataclass(slots=True)
class _Read:
    """Of one topic."""

    records: list[dict[str, Any]]
    places: list[int]
    """Of the records, and where to go on."""
    ends_before: int
    """The cause of the first record that was not taken."""

    def place_of(self, before: int) -> int:
        """Where the first record stands that is caused by `before` or later; where to go on if none was taken."""
        causes = enumerate(each["offset"] for each in self.records)
        return self.places[next((index for index, cause in causes if cause >= before), len(self.records))]


def _read(messages: Iterable[Message], start: int, since: int, before: int, records_max: int) -> _Read:
    records: list[dict[str, Any]] = []
    places: list[int] = []
    ends_before, go_on = before, start
    for message in messages:
        record: dict[str, Any] = orjson.loads(message.value() or b"{}")
        cause, place = int(record["offset"]), message.offset() or 0
        if cause < since and not records:
            go_on = place + 1
            continue  # Of the stretch before.
        if cause >= before or (len(records) >= records_max and cause > records[-1]["offset"]):
            ends_before, go_on = min(cause, before), place
            break
        records.append(record)
        places.append(place)
        go_on = place + 1
    return _Read(records=records, places=[*places, go_on], ends_before=ends_before)


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
