"""A stretch of one partition's log, compared as `partition.py` does it, from the records that answer it alone.

A stretch ends before the first cause of which something is not stored, so a lag is never a difference. What goes before
it is asked of ClickHouse, account by account: nothing is remembered from one stretch to the next but where reading goes
on. What only the whole shows (the table's digest, statements against all their entries, the rollup, that a balance
follows its entries at all) is left to `creditstream reconcile`.

Records stream by, so a stretch may be long, which asks ClickHouse seldom: no index helps it to find offsets. Memory
grows by a hundred bytes for each entry and by the accounts.
"""

import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

import orjson

from pipeline.reconcile.alerts import Alerts
from pipeline.reconcile.chain import FIRST_HASH, Chains, Link, micros
from pipeline.reconcile.partition import PartitionCheck
from pipeline.reconcile.progress import STORED_TOPICS, PartitionProgress
from pipeline.reconcile.report import Difference, Findings, Kind
from pipeline.reconcile.statements import Statements
from pipeline.reconcile.stored import ALERTS, DEAD, ENTRIES, METERED, STATEMENTS, TOPUPS, Row
from pipeline.reconcile.table import Table
from pipeline.reconcile.topics import Log
from pipeline.reconcile.topups import Topups
from pipeline.reconcile.warehouse import Warehouse
from schemas.topics import ACCOUNT_BALANCES, ACCOUNT_EVENTS, COMMAND_RESULTS, LEDGER_ENTRIES

OUTCOME_TOPICS: Final = (*STORED_TOPICS, COMMAND_RESULTS)
INPUTS_MAX: Final = 200_000
"""Offsets of a stretch, most of which may be ticks that brought nothing."""
NAMES_MAX: Final = 1000
"""Accounts that ClickHouse is asked about at a time: their names travel in the request's line."""
_NOTHING: Final = Link(0, FIRST_HASH, 0)
_CAUSE: Final = itemgetter(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The input offsets [since, before), and where on each topic to look for what they have caused."""

    partition: int
    since: int
    before: int
    starts: Mapping[str, int]


def next_stretch(
    log: Log, progress: PartitionProgress, since: int, places: Mapping[str, int], *, records_max: int
) -> Stretch:
    """As much from `since` on as is answered and stored, of each topic about `records_max` records.

    `places`: where on topics to look for what is caused by `since`, as far as that is known.
    """
    partition, before = progress.partition, min(progress.stored_before, since + INPUTS_MAX)
    first = log.first(ACCOUNT_EVENTS, partition, since) if since < before else None
    if first is None:
        return Stretch(partition=partition, since=since, before=since, starts=places)
    # Outcomes bear the time of their input, or the partition's clock, which is never behind it. But the marker of a
    # transaction bears the time of its commit, and may be found long before them.
    unknown = [topic for topic in OUTCOME_TOPICS if topic not in places]
    starts = {**places, **log.offsets_at(unknown, partition, first.timestamp()[1])}
    for topic, start in starts.items():
        starts[topic], ends_before = _bounded(log, topic, partition, since, start, records_max)
        before = min(before, ends_before)
    return Stretch(partition=partition, since=since, before=before, starts=starts)


def _bounded(
    log: Log, topic: str, partition: int, since: int, start: int, records_max: int
) -> tuple[int, int]:
    """Where to begin so that nothing caused by `since` is missed and little before it is read, and the cause of what
    stands so many records behind: a stretch ends before it, but is at least one input record long."""
    while (message := log.first(topic, partition, start + records_max)) is not None:
        cause = int(orjson.loads(message.value() or b"{}")["offset"])
        if cause >= since:
            return start, max(cause, since + 1)
        start = message.offset() or 0
    return start, sys.maxsize


@dataclass(slots=True)
class StretchCheck(PartitionCheck):
    """Compares one stretch; differences go to `findings`."""

    starts: Mapping[str, int] = field(default_factory=dict[str, int])
    """By topic, where to look."""
    begins_of_topics: Mapping[str, int] = field(default_factory=dict[str, int])
    """By topic the first offset that the broker still holds."""
    places: dict[str, int] = field(default_factory=dict[str, int])
    """Afterwards, by topic: where the next stretch is to look."""
    entered: defaultdict[str, list[tuple[int, int, int]]] = field(
        default_factory=lambda: defaultdict[str, list[tuple[int, int, int]]](list)
    )
    """Account → cause, number and balance of each entry."""

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
        links = self._links_of(
            self.warehouse.links_of_entered(self.table.partition, self.since, self.table.next_offset)
        )
        chains = Chains(self.findings, whole=self._is_whole(LEDGER_ENTRIES), newest=dict(links))

        def follow(entry: dict[str, Any]) -> None:
            self._entry(chains, statements, topups, entry)
            account = entry["account_id"]
            self.entered[account].append(
                (entry["offset"], entry["entry_seq"], chains.newest[account].balance)
            )

        self._compare(ENTRIES, follow)
        self._check_answers()
        self._check_balances(links)

    def _is_whole(self, topic: str) -> bool:
        return self.begins_of_topics[topic] == 0

    def _records(self, topic: str) -> Iterator[dict[str, Any]]:
        start = self.starts.get(topic)
        if start is None:
            return
        has_begun, go_on = False, start
        for message in self.log.messages(topic, self.table.partition, start=start):
            record: dict[str, Any] = orjson.loads(message.value() or b"{}")
            place = message.offset() or 0
            if record["offset"] >= self.table.next_offset:
                go_on = place
                break
            has_begun = has_begun or record["offset"] >= self.since
            go_on = place + 1
            if has_begun:
                yield record
        self.places[topic] = go_on

    @staticmethod
    def _links_of(rows: Iterable[Row]) -> dict[str, Link]:
        return {account: Link(seq, entry_hash, micros(balance)) for account, seq, entry_hash, balance in rows}

    def _check_balances(self, links: Mapping[str, Link]) -> None:
        """Each balance in Kafka is what the account's entries came to where it was said. `links`: before the stretch,
        of whoever has an entry in it.

        A batch says one balance of an account, of its last change, so where a stretch cuts a batch the balance of an
        entry may stand behind the cut: that entries without a balance have one is not looked at here.
        """
        newest: dict[str, dict[str, Any]] = {}
        for record in self._records(ACCOUNT_BALANCES):
            account = record["account_id"]
            newest[account] = record
            if account in self.entered:
                entries = self.entered[account]
                before = bisect_right(entries, record["offset"], key=_CAUSE)
                link = links.get(account, _NOTHING)
                seq, balance = entries[before - 1][1:] if before else (link.entry_seq, link.balance)
                self._expect_balance(record, seq, balance)
        for some in _in_parts(sorted(newest), NAMES_MAX):
            self._check_stored_balances({account: newest[account] for account in some})
            resting = [account for account in some if account not in self.entered]
            rows = self.warehouse.links(self.table.partition, resting, self.since) if resting else ()
            found = self._links_of(rows)
            for account in resting:
                link = found.get(account, _NOTHING)
                self._expect_balance(newest[account], link.entry_seq, link.balance)

    def _expect_balance(self, record: dict[str, Any], seq: int, balance: int) -> None:
        said = (micros(record["posted"]), record["entry_seq"])
        if said != (balance, seq):
            wanted, found = (f"{amount} after entry {number}" for amount, number in ((balance, seq), said))
            self._differ_balance(record, ACCOUNT_BALANCES, wanted, found)

    def _check_stored_balances(self, newest: Mapping[str, dict[str, Any]]) -> None:
        """The newest balance of each account in the stretch stands in ClickHouse, or a later one."""
        rows = self.warehouse.balances(self.table.partition, sorted(newest))
        stored = {account: fields for account, *fields in rows}
        for account, record in newest.items():
            amounts = [micros(record[name]) for name in ("posted", "held", "overage")]
            *found, seq, offset = stored.get(account, [0, 0, 0, 0, -1])
            wanted, there = [*amounts, record["entry_seq"]], [*(micros(str(each)) for each in found), seq]
            if offset < self.table.next_offset and wanted != there:
                self._differ_balance(record, "account_balances", str(wanted), str(there))

    def _differ_balance(self, record: dict[str, Any], where: str, expected: str, found: str) -> None:
        name = (str(record["account_id"]), "")
        self._differ(Kind.BALANCE_DIFFERS, where, record["offset"], name, expected, found)


def _in_parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[first : first + size] for first in range(0, len(names), size))


def compare_stretch(
    log: Log, warehouse: Warehouse, stretch: Stretch
) -> tuple[list[Difference], Mapping[str, int]]:
    """What differs in it, and where on each topic to look for what comes after it."""
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
    begins = log.starts_of(OUTCOME_TOPICS, stretch.partition)
    check = StretchCheck(
        log, table, warehouse, findings, since=stretch.since, starts=stretch.starts, begins_of_topics=begins
    )
    check.compare()
    return findings.listed, check.places
