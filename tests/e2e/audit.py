"""Holds what stands in Kafka to the auditor: every outcome by position, every balance and grant of the table."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import orjson

import schemas
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
    audited = Audited()
    log = Log(settings.kafka)
    for partition in range(settings.kafka.partitions):
        auditor = Auditor(rules_of(settings), partition=partition)
        expected = {
            message.offset() or 0: _shortened(
                auditor.judge(
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    cast(list[tuple[str, bytes]], message.headers() or []),
                    offset=message.offset(),
                )
            )
            for message in log.messages(topics.ACCOUNT_EVENTS, partition)
        }
        for offset, found in _said(log, partition):
            wanted = expected.pop(offset, None)
            if wanted is not None and _is_charge_of(wanted, found):
                expected[offset] = wanted
            elif wanted != found:
                audited.differ(f"partition {partition} offset {offset}: expected {wanted}, found {found}")
        for offset, wanted in expected.items():
            if wanted.outcome != "tick":
                audited.differ(f"partition {partition} offset {offset}: expected {wanted}, found nothing")
        _compare_table(audited, log, settings, partition, auditor)
        _compare_statements(audited, log, partition, auditor)
        audited.take(auditor)
    log.close()
    return audited


def _shortened(verdict: Verdict) -> Verdict:
    """Of dead letters only the class of the reason: the rest is as far as it could be read."""
    return Verdict("dead_letter", verdict.reason) if verdict.outcome == "dead_letter" else verdict


def _is_charge_of(command: Verdict, found: Verdict) -> bool:
    """Whether this is the usage that an accepted command is about, whose answer follows. Their amounts are in the
    sum that is charged, and in the balance."""
    is_charge = command.outcome == "accepted" and found.outcome not in {"accepted", "duplicate"}
    return is_charge and (command.account, command.balance_after) == (found.account, found.balance_after)


def _said(log: Log, partition: int) -> Iterator[tuple[int, Verdict]]:
    for record in _records(log, topics.METERED_RECORDS, partition):
        amounts = (Decimal(record[name]) for name in ("credits", "rated_credits", "balance_after"))
        name = (record["outcome"], record["reason"], record["account_id"], record["event_id"])
        yield record["offset"], Verdict(*name, *amounts)
    for record in _records(log, topics.COMMAND_RESULTS, partition):
        name = (record["outcome"], record["reason"], record["account_id"], record["command_id"])
        yield record["offset"], Verdict(*name, balance_after=Decimal(record["balance_after"]))
    for record in _records(log, topics.DEAD_LETTERS, partition):
        reason = record["reason"]
        yield record["offset"], Verdict("dead_letter", DEAD_LETTER_CLASSES.get(reason, reason))


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
