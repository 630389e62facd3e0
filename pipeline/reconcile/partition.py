"""One partition, everything with everything, up to the cursor that was found at the start:

- each record of the input log, ticks aside, has exactly one outcome in Kafka, and no outcome lacks its input;
- each outcome, entry, statement and alert stands in ClickHouse exactly once and unaltered, and nothing else does;
- entries are numbered and chained without a gap, and each charge is the usage entry of the same event;
- an accepted command about usage (a capture, a correction) has beside its result one metered record; no other has;
- each statement adds up, goes on from the one before, and says what the entries that it covers say;
- an account's last entry, its row of the table, its newest balance in Kafka and in ClickHouse are one amount.

What the broker does not hold any more is not looked at: each topic counts from the moment on that its retention leaves
whole, so that a deployment of months has no differences for being old.

Memory grows by ten bytes for each record of the partition and by its accounts, their statements and alerts, not
by its records' size.
"""

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.reconcile.alerts import Alerts
from pipeline.reconcile.balances import check_balances
from pipeline.reconcile.chain import Chains, micros
from pipeline.reconcile.inputs import CAPTURE, CAPTURED, EVENT, TIME, kind_of
from pipeline.reconcile.report import Difference, Findings, Kind, PartitionReport
from pipeline.reconcile.statements import Statements
from pipeline.reconcile.stored import (
    ALERTS,
    DEAD,
    ENTRIES,
    METERED,
    STATEMENTS,
    TOPUPS,
    Row,
    Shape,
    altered,
    beside,
)
from pipeline.reconcile.table import Table
from pipeline.reconcile.topics import Log
from pipeline.reconcile.topups import Topups
from pipeline.reconcile.warehouse import Warehouse
from schemas.topics import (
    ACCOUNT_EVENTS,
    ACCOUNT_STATEMENTS,
    COMMAND_RESULTS,
    DEAD_LETTERS,
    HOUR_MS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    TOPUP_ORDERS,
    topics,
)

RETENTION_MS: Final = {
    each.name: each.retention_ms for each in topics("", hot_window_hours=0) if each.retention_ms is not None
}
"""What every broker of ours keeps at least (`admin.topics` refuses less)."""
RETENTION_MARGIN_MS: Final = HOUR_MS
"""For what is deleted while it is compared, and for clocks that differ."""


@dataclass(slots=True)
class PartitionCheck:
    """Runs the comparisons of one partition, one topic after the other."""

    log: Log
    table: Table
    warehouse: Warehouse
    findings: Findings
    low: int = 0
    since: int = 0
    """Causes before this input offset are not looked at."""
    now_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    """For what retention has left."""
    begins: dict[str, int] = field(default_factory=dict[str, int])
    """By topic, as far as asked: see `_begins`."""
    inputs: bytearray = field(default_factory=bytearray)
    answers: bytearray = field(default_factory=bytearray)
    charges: "array[int]" = field(default_factory=lambda: array("q"))
    """Micro-credits by input offset: charged by metered records, less what usage entries took and reversals gave."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    charged: int = 0

    def run(self) -> PartitionReport:
        """Everything; differences go to `findings`."""
        topups = Topups(
            partition=self.table.partition,
            findings=self.findings,
            whole=self._is_whole(TOPUP_ORDERS),
            results_whole=self._is_whole(COMMAND_RESULTS),
        )
        self._read_input(self.log.start_of(ACCOUNT_EVENTS, self.table.partition), topups)
        self._compare(METERED, self._metered)
        self._compare(DEAD, self._dead_letter)
        self._compare(ALERTS, Alerts(findings=self.findings).read)
        self._compare(TOPUPS, topups.read)
        self._read_results(topups)
        chains = Chains(self.findings, whole=self._is_whole(LEDGER_ENTRIES))
        statements = Statements(
            partition=self.table.partition,
            findings=self.findings,
            whole=self._is_whole(ACCOUNT_STATEMENTS),
            entries_whole=chains.whole,
        )
        self._compare(STATEMENTS, lambda statement: self._statement(statements, topups, statement))
        self._compare(ENTRIES, lambda entry: self._entry(chains, statements, topups, entry))
        statements.finish(self.table.rows)
        topups.finish()
        self._check_answers()
        check_balances(self.log, self.table, self.warehouse, chains.newest, self.findings)
        watermark = self.table.next_offset
        return PartitionReport(
            partition=self.table.partition,
            watermark=watermark,
            equal_up_to=self.findings.first_offset.get(self.table.partition, watermark),
            records=len(self.inputs) - self.inputs.count(0),
            accounts=len(self.table.rows),
            outcomes=dict(sorted(self.outcomes.items())),
            charged_micros=self.charged,
        )

    def _is_whole(self, topic: str) -> bool:
        return self.log.start_of(topic, self.table.partition) == 0

    def _begins(self, topic: str) -> int:
        """The input offset from which on the broker holds all records of a topic."""
        known = self.begins.get(topic)
        if known is None:
            known = self.begins[topic] = self.since if self._is_whole(topic) else self._retained_from(topic)
        return known

    def _retained_from(self, topic: str) -> int:
        """Outcomes bear the time of their input or a later one, and what is younger than the retention is there."""
        at_ms = self.now_ms - RETENTION_MS[topic] + RETENTION_MARGIN_MS
        end = self.table.next_offset
        return max(self.since, self.log.offset_at(ACCOUNT_EVENTS, self.table.partition, at_ms, end))

    def _records(self, topic: str) -> Iterable[dict[str, Any]]:
        """The records of a topic whose cause is to be looked at."""
        return self.log.records(topic, self.table.partition, before=self.table.next_offset)

    def _read_results(self, topups: Topups | None = None) -> None:
        for result in self._records(COMMAND_RESULTS):
            self._answered(COMMAND_RESULTS, result, str(result["outcome"]), str(result["command_id"]))
            if topups is not None:
                topups.answered(result)

    def _read_input(self, low: int, topups: Topups | None = None) -> None:
        self.low = low
        size = max(self.table.next_offset - self.low, 0)
        self.inputs, self.answers = bytearray(size), bytearray(size)
        self.charges = array("q", bytes(8 * size))
        for message in self.log.messages(ACCOUNT_EVENTS, self.table.partition, start=self.low):
            place = (message.offset() or 0) - self.low
            if place >= size:
                break
            self.inputs[place] = kind_of(message)
            if topups is not None:
                topups.see(message)
        if ticks := self.inputs.count(TIME):
            self.outcomes["tick"] = ticks

    def _metered(self, record: dict[str, Any]) -> None:
        place, charged = record["offset"] - self.low, micros(record["credits"])
        if place >= 0 and self.inputs[place] == CAPTURE and record["outcome"] != "duplicate":
            self.inputs[place] = CAPTURED  # Its outcome is the command's result.
        else:
            self._answered(METERED_RECORDS, record, record["outcome"], record["event_id"])
        self.charged += charged
        if place >= 0:
            self.charges[place] += charged

    def _dead_letter(self, record: dict[str, Any]) -> None:
        self._answered(DEAD.topic, record, "dead_letter", record["event_id"])

    def _statement(self, statements: Statements, topups: Topups, statement: dict[str, Any]) -> None:
        statements.read(statement)
        topups.closed(statement)

    def _entry(self, chains: Chains, statements: Statements, topups: Topups, entry: dict[str, Any]) -> None:
        amount = chains.follow(entry)
        statements.follow(entry, amount)
        topups.follow(entry, amount)
        place = entry["offset"] - self.low
        if entry["kind"] in {"usage", "reversal"} and 0 <= place < len(self.charges):
            self.charges[place] += amount

    def _answered(self, topic: str, record: dict[str, Any], outcome: str, event_id: str) -> None:
        self.outcomes[outcome] += 1
        place = record["offset"] - self.low
        if place < 0:
            return  # Its input is older than the log keeps.
        self.answers[place] = min(self.answers[place] + 1, 255)
        name, asked = (record["account_id"], event_id), self.inputs[place]
        if self.answers[place] > 1:
            found = f"{self.answers[place]} outcomes"
            self._differ(Kind.OUTCOME_DOUBLED, topic, record["offset"], name, "one outcome", found)
        elif asked in {0, TIME}:
            found = "none at this offset"
            self._differ(Kind.OUTCOME_WITHOUT_INPUT, topic, record["offset"], name, "an input record", found)
        elif asked == CAPTURED and outcome != "accepted":
            found = f"a command that was answered {outcome}"
            self._differ(Kind.CHARGE_WITHOUT_CAPTURE, topic, record["offset"], name, "an accepted one", found)
        elif asked == CAPTURE and outcome == "accepted" and record["offset"] >= self._begins(METERED_RECORDS):
            wanted = "the metered record that an accepted command brings"
            self._differ(Kind.NO_OUTCOME, METERED_RECORDS, record["offset"], name, wanted, "none")

    def _compare(self, shape: Shape, look: Callable[[dict[str, Any]], None]) -> None:
        """A topic with its table; `look` sees every record of the topic once."""
        stored = self.warehouse.rows(
            shape, self.table.partition, since=self._begins(shape.topic), before=self.table.next_offset
        )
        for wanted, there in beside(self._in_order(shape, look), stored):
            if len(wanted) == len(there) == 1:
                if wanted[0] != there[0]:
                    self._compare_rows(shape, wanted[0], there[0])
            else:
                self._pair(shape, wanted, there)

    def _in_order(self, shape: Shape, look: Callable[[dict[str, Any]], None]) -> Iterator[Row]:
        begins = newest = self._begins(shape.topic)
        for record in self._records(shape.topic):
            look(record)
            row = shape.row(record)
            if row[0] < begins:
                continue
            if row[0] < newest:
                found = f"offset {row[0]} after {newest}"
                self._differ_row(Kind.OUT_OF_ORDER, shape, row, "outcomes in the order of the log", found)
            else:
                newest = row[0]
                yield row

    def _pair(self, shape: Shape, wanted: list[Row], there: list[Row]) -> None:
        """Rows of one offset by their names: what is missing, what is there twice, what nobody wrote."""
        for name in dict.fromkeys(tuple(row[:3]) for row in (*wanted, *there)):
            mine = [row for row in wanted if tuple(row[:3]) == name]
            theirs = [row for row in there if tuple(row[:3]) == name]
            if mine and theirs:
                self._compare_rows(shape, mine[0], theirs[0])
            if len(mine) == len(theirs):
                continue
            kind = (
                Kind.ROW_MISSING
                if len(theirs) < len(mine)
                else Kind.ROW_DOUBLED
                if mine
                else Kind.ROW_UNKNOWN
            )
            self._differ_row(kind, shape, (mine or theirs)[0], f"{len(mine)} rows", f"{len(theirs)} rows")

    def _compare_rows(self, shape: Shape, wanted: Row, there: Row) -> None:
        for name, want, have in altered(shape, wanted, there):
            self._differ_row(Kind.ROW_ALTERED, shape, wanted, f"{name} {want}", f"{name} {have}")

    def _check_answers(self) -> None:
        usage = max(self._begins(METERED_RECORDS), self._begins(DEAD_LETTERS))
        command = max(usage, self._begins(COMMAND_RESULTS))
        charged = max(usage, self._begins(LEDGER_ENTRIES))
        for place, kind in enumerate(self.inputs):
            offset = self.low + place
            if (
                kind not in {0, TIME}
                and not self.answers[place]
                and offset >= (usage if kind == EVENT else command)
            ):
                name = self._name_of(offset)
                self._differ(Kind.NO_OUTCOME, ACCOUNT_EVENTS, offset, name, "one outcome", "none")
            if self.charges[place] and offset >= charged:
                name = self._name_of(offset)
                found = f"{self.charges[place]} micro-credits more charged than entered"
                self._differ(Kind.CHARGE_WITHOUT_ENTRY, LEDGER_ENTRIES, offset, name, "charge = entry", found)

    def _name_of(self, offset: int) -> tuple[str, str]:
        """Account and id of an input record, as far as it has them."""
        if len(self.findings.listed) >= self.findings.listed_max:
            return "", ""
        message = next(self.log.messages(ACCOUNT_EVENTS, self.table.partition, start=offset))
        account = (message.key() or b"").decode("utf-8", "replace")
        try:
            return account, str(orjson.loads(message.value() or b"")["id"])
        except (ValueError, KeyError, TypeError):
            return account, ""

    def _differ_row(self, kind: Kind, shape: Shape, row: Row, expected: str, found: str) -> None:
        name = (str(row[1]), shape.event_id(row))
        self._differ(
            kind, shape.topic if kind is Kind.OUT_OF_ORDER else shape.table, row[0], name, expected, found
        )

    def _differ(
        self, kind: Kind, where: str, offset: int, name: tuple[str, str], expected: str, found: str
    ) -> None:
        self.findings.add(
            Difference(
                kind=kind,
                where=where,
                partition=self.table.partition,
                offset=offset,
                account_id=name[0],
                event_id=name[1],
                expected=expected,
                found=found,
            )
        )
