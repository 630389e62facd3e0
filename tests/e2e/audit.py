"""Holds what stands in Kafka to the auditor: every outcome by position, every balance and grant of the table.

Input and outcomes are read side by side, so that memory grows by what the auditor itself remembers: about 2 kB for each
event of a partition. Long logs are audited by one process for each core, a partition at a time.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from heapq import merge
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson

import schemas
from pipeline.kafka import logged
from pipeline.reconcile.instants import epoch_ms
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas import topics
from tests.simulation.auditor import (
    DEAD_LETTER_CLASSES,
    AuditedStatement,
    Auditor,
    AuditRules,
    Verdict,
    rules_from_plan_file,
    statement_of,
)

PLAN_FILE = Path(schemas.__file__).parent / "plans" / "2026-01.json"
DIFFERENCES_LISTED_MAX = 20
SIDE_BY_SIDE_RECORDS = 200_000
"""From so long a log on, processes are worth their start."""


@dataclass(slots=True)
class Audited:
    """What the auditor expects in all, and where the pipeline differs from it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    charged: Decimal = Decimal(0)
    balances: dict[str, Decimal] = field(default_factory=dict)
    statements: int = 0
    differences: list[str] = field(default_factory=list)
    differences_total: int = 0

    def differ(self, what: str) -> None:
        self.differences_total += 1
        if len(self.differences) < DIFFERENCES_LISTED_MAX:
            self.differences.append(what)

    def add(self, other: "Audited") -> None:
        """Take in what was found of another partition."""
        self.outcomes.update(other.outcomes)
        self.balances.update(other.balances)
        self.charged += other.charged
        self.statements += other.statements
        self.differences_total += other.differences_total
        self.differences += other.differences[: DIFFERENCES_LISTED_MAX - len(self.differences)]

    def take(self, auditor: Auditor) -> None:
        self.outcomes.update(auditor.outcomes)
        self.balances.update(auditor.balances())
        self.charged += sum((account.used for account in auditor.accounts.values()), Decimal(0))


def rules_of(settings: Settings) -> AuditRules:
    keys = {key: bytes.fromhex(secret.get_secret_value()) for key, secret in settings.command_keys.items()}
    lead_ms = settings.rules.publish_lead_seconds * 1000
    return replace(rules_from_plan_file(PLAN_FILE, keys), lead_ms=lead_ms)


def audit_log(settings: Settings) -> Audited:
    """The raw input log with its append times, against the outcomes and the table, partition by partition."""
    with closing(Log(settings.kafka)) as log:
        lengths = {
            each: log.bounds(topics.ACCOUNT_EVENTS, each)[1] for each in range(settings.kafka.partitions)
        }
    # The longest first, so that none is left to one process at the end.
    partitions = sorted(lengths, key=lambda each: lengths[each], reverse=True)
    whole = Audited()
    if sum(lengths.values()) < SIDE_BY_SIDE_RECORDS:
        for partition in partitions:
            whole.add(_audit_partition(settings, partition))
        return whole
    # Not forked: librdkafka's threads stay behind. A process for each partition: what it took is given back.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), max_tasks_per_child=1) as pool:
        for audited in pool.map(_audit_partition, [settings] * len(partitions), partitions):
            whole.add(audited)
    return whole


def _audit_partition(settings: Settings, partition: int) -> Audited:
    audited, auditor = Audited(), Auditor(rules_of(settings), partition=partition)
    with ExitStack() as stack:
        inputs, *others = [stack.enter_context(closing(Log(settings.kafka))) for _ in range(4)]
        said = _Said(others, partition)
        for message in inputs.messages(topics.ACCOUNT_EVENTS, partition):
            record = logged(message)
            offset = record.offset
            wanted = auditor.judge(record.timestamp, record.key, record.value, record.headers, offset=offset)
            _compare_outcome(audited, f"partition {partition} offset", offset, _shortened(wanted), said)
        for offset, found in said.rest():
            audited.differ(f"partition {partition} offset {offset}: expected no record, found {found}")
        _compare_table(audited, inputs, settings, partition, auditor)
        _compare_statements(audited, inputs, partition, auditor)
    audited.take(auditor)
    return audited


class _Said:
    """What the pipeline said, in the order of the log; at one place usage before the command that brought it."""

    def __init__(self, logs: list[Log], partition: int) -> None:
        self._all = merge(*_said(logs, partition), key=lambda each: each[0])
        self._next = next(self._all, None)

    def up_to(self, offset: int) -> Iterator[tuple[int, Verdict]]:
        """All that is not yet taken up to this place."""
        while self._next is not None and self._next[0] <= offset:
            yield self._next
            self._next = next(self._all, None)

    def rest(self) -> Iterator[tuple[int, Verdict]]:
        """All that is left."""
        return self.up_to(1 << 62)


def _compare_outcome(audited: Audited, where: str, offset: int, wanted: Verdict, said: _Said) -> None:
    expected: Verdict | None = wanted
    for place, found in said.up_to(offset):
        if place == offset and expected is not None and _is_charge_of(expected, found):
            continue
        if place != offset or expected != found:
            audited.differ(
                f"{where} {place}: expected {expected if place == offset else None}, found {found}"
            )
        if place == offset:
            expected = None
    if expected is not None and expected.outcome != "tick":
        audited.differ(f"{where} {offset}: expected {expected}, found nothing")


def _shortened(verdict: Verdict) -> Verdict:
    """Of dead letters only the class of the reason: the rest is as far as it could be read."""
    return Verdict("dead_letter", verdict.reason) if verdict.outcome == "dead_letter" else verdict


def _is_charge_of(command: Verdict, found: Verdict) -> bool:
    """Whether this is the usage that an accepted command is about, whose answer follows. Their amounts are in the
    sum that is charged, and in the balance."""
    is_charge = command.outcome == "accepted" and found.outcome not in {"accepted", "duplicate"}
    return is_charge and (command.account, command.balance_after) == (found.account, found.balance_after)


def _said(logs: list[Log], partition: int) -> list[Iterator[tuple[int, Verdict]]]:
    """Each topic by a reader of its own, since one reads one thing at a time."""
    of_usage, of_commands, of_dead = logs
    return [
        map(_of_usage, _records(of_usage, topics.METERED_RECORDS, partition)),
        map(_of_command, _records(of_commands, topics.COMMAND_RESULTS, partition)),
        map(_of_dead_letter, _records(of_dead, topics.DEAD_LETTERS, partition)),
    ]


def _of_usage(record: dict[str, Any]) -> tuple[int, Verdict]:
    amounts = (Decimal(record[name]) for name in ("credits", "rated_credits", "balance_after"))
    name = (record["outcome"], record["reason"], record["account_id"], record["event_id"])
    return record["offset"], Verdict(*name, *amounts)


def _of_command(record: dict[str, Any]) -> tuple[int, Verdict]:
    name = (record["outcome"], record["reason"], record["account_id"], record["command_id"])
    return record["offset"], Verdict(*name, balance_after=Decimal(record["balance_after"]))


def _of_dead_letter(record: dict[str, Any]) -> tuple[int, Verdict]:
    reason = record["reason"]
    return record["offset"], Verdict("dead_letter", DEAD_LETTER_CLASSES.get(reason, reason))


def _records(log: Log, topic: str, partition: int) -> Iterator[dict[str, Any]]:
    for message in log.messages(topic, partition):
        yield orjson.loads(message.value() or b"")


def _compare_table(audited: Audited, log: Log, settings: Settings, partition: int, auditor: Auditor) -> None:
    """Each account's grants with what is left of them, and its balance."""
    auditor.balances()  # Lets time pass for all.
    rows: dict[str, dict[str, Any]] = {}
    for message in log.messages(topics.changelog(settings.worker.app_id), partition):
        rows[(message.key() or b"").decode()] = orjson.loads(message.value() or b"null")
    rows = {key: row for key, row in rows.items() if not key.startswith("__")}
    for account in sorted(rows.keys() | auditor.accounts.keys()):
        row, expected = rows.get(account), auditor.accounts.get(account)
        if row is None or expected is None:
            audited.differ(f"account {account}: expected {expected}, found {row}")
            continue
        wanted = sorted(
            (grant.kind, grant.priority, grant.expires_ms or 0, grant.remaining) for grant in expected.grants
        )
        # Terms (id, kind, priority, credits, effective, expires, created, source), and of those in effect what is left.
        terms = [(grant, grant[-1]) for grant in row["grants"]] + [
            (grant, grant[3]) for grant in row["pending"]
        ]
        found = sorted((grant[1], grant[2], grant[5] or 0, Decimal(left).scaleb(-6)) for grant, left in terms)
        if wanted != found:
            audited.differ(f"account {account}: expected grants {wanted}, found {found}")
        holds = {name: Decimal(amount).scaleb(-6) for name, amount, *_ in row["holds"]}
        if holds != {name: hold.credits for name, hold in expected.holds.items()}:
            audited.differ(f"account {account}: expected holds {expected.holds}, found {holds}")
        if (row["closed"], row["plan"]) != (expected.closed, [expected.plan, expected.next_plan]):
            audited.differ(
                f"account {account}: expected {expected.plan}, then {expected.next_plan}, found {row}"
            )
        posted = Decimal(row["posted"]).scaleb(-6)
        if posted != expected.balance(auditor.clock_ms):
            audited.differ(
                f"account {account}: expected {expected.balance(auditor.clock_ms)}, found {posted}"
            )


def _compare_statements(audited: Audited, log: Log, partition: int, auditor: Auditor) -> None:
    """Each closed period of each account, in order."""
    found: dict[str, list[AuditedStatement]] = {}
    for record in _records(log, topics.ACCOUNT_STATEMENTS, partition):
        found.setdefault(record["account_id"], []).append(statement_of(record, epoch_ms))
    for account, expected in auditor.accounts.items():
        if found.get(account, []) != expected.statements:
            audited.differ(
                f"account {account}: expected statements {expected.statements}, found {found.get(account)}"
            )
    audited.statements += sum(len(each) for each in found.values())
