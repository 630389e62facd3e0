"""What the sink's tests need: records as the worker writes them, and sinks as processes that can be hurt."""

import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.clickhouse import Client
from pipeline.kafka import Producer, admin, producer, topic_id, topic_name
from pipeline.settings import Settings, child_environment
from pipeline.sink.insert import TABLES
from pipeline.sink.worker import serve
from schemas.account_alert import AccountAlert
from schemas.account_balance import AccountBalance, GrantBalance, OpenHold
from schemas.account_statement import AccountStatement, OverageReturn
from schemas.base import GrantShare, WireModel
from schemas.dead_letter import DeadLetter, Header
from schemas.ledger_entry import LedgerEntry
from schemas.metered_record import MeteredRecord, Receipt
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
)
from tests import stack
from tests.stream_workers import QUICK

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)
"""Records are stamped near the present: the broker's retention goes by their timestamps."""
RUN = "from pipeline.settings import Settings; from pipeline.sink.worker import run; run(Settings())"


class Record(NamedTuple):
    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int


def instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def record(topic: str, model: WireModel, account_id: str, at_ms: int) -> Record:
    return Record(topic, account_id.encode(), model.model_dump_json().encode(), at_ms)


def metered(account_id: str, *, partition: int, offset: int, at_ms: int = NOW_MS, **changes: Any) -> Record:
    receipt = Receipt(
        inputs={"images": 1},
        steps=[],
        credits_per_image=Decimal("1.5"),
        images=1,
        grants=[GrantShare(grant_id="g", credits=Decimal("1.5"))],
        balance_before=Decimal(100),
        balance_after=Decimal("98.5"),
    )
    values: dict[str, Any] = {
        "account_id": account_id,
        "event_id": f"event-{partition}-{offset}",
        "source": "/tests",
        "service": "upscaling",
        "outcome": "metered",
        "reason": "",
        "occurred_at": instant(at_ms - 1000),
        "accepted_at": instant(at_ms),
        "channel": "api",
        "images": 1,
        "credits": Decimal("1.5"),
        "rated_credits": Decimal("1.5"),
        "price_book": "book-1",
        "balance_after": Decimal("98.5"),
        "partition": partition,
        "offset": offset,
        "partition_seq": offset + 1,
        "entry_seq": offset + 1,
        "first_offset": offset,
        "receipt": receipt,
        "attributes": {},
    }
    return record(METERED_RECORDS, MeteredRecord(**{**values, **changes}), account_id, at_ms)


def entry(account_id: str, *, partition: int, offset: int, at_ms: int = NOW_MS) -> Record:
    model = LedgerEntry(
        account_id=account_id,
        entry_seq=offset + 1,
        kind="usage",
        credits=Decimal("-1.5"),
        balance_after=Decimal("98.5"),
        booked_at=instant(at_ms),
        accepted_at=instant(at_ms),
        cause_source="/tests",
        cause_id=f"event-{partition}-{offset}",
        grants=[GrantShare(grant_id="g", credits=Decimal("1.5"))],
        partition=partition,
        offset=offset,
        partition_seq=offset + 1,
        previous_hash="0" * 32,
        entry_hash="f" * 32,
    )
    return record(LEDGER_ENTRIES, model, account_id, at_ms)


def balance(
    account_id: str, *, partition: int, offset: int, posted: Decimal = Decimal("98.5"), at_ms: int = NOW_MS
) -> Record:
    grant = GrantBalance(
        grant_id="g",
        kind="prepaid",
        priority=10,
        credits=Decimal(100),
        remaining=posted,
        effective_at=instant(at_ms),
        expires_at=None,
    )
    model = AccountBalance(
        account_id=account_id,
        plan="free",
        next_plan="free",
        status="open",
        posted=posted,
        held=Decimal(8),
        available=posted - 8,
        overage_ceiling=Decimal(100),
        overage=Decimal(0),
        auto_topup=None,
        alert_thresholds=[80, 100, 110],
        holds=[OpenHold(hold_id="h", credits=Decimal(8), expires_at=instant(at_ms + 900_000))],
        grants=[grant],
        period_used=Decimal("1.5"),
        period_start=instant(at_ms),
        period_end=instant(at_ms + 1),
        entry_seq=offset + 1,
        accepted_at=instant(at_ms),
        partition=partition,
        offset=offset,
        partition_seq=offset + 1,
    )
    return record(ACCOUNT_BALANCES, model, account_id, at_ms)


def statement(account_id: str, *, partition: int, offset: int, at_ms: int = NOW_MS) -> Record:
    model = AccountStatement(
        account_id=account_id,
        plan="free",
        period_start=instant(at_ms - 1000),
        period_end=instant(at_ms),
        opening=Decimal(0),
        granted=Decimal(100),
        used=Decimal("1.5"),
        expired=Decimal(0),
        voided=Decimal(0),
        reversed=Decimal(2),
        overage=Decimal(0),
        overage_price="0.03",
        overage_amount="0",
        overage_returned=Decimal(2),
        overage_returns=[
            OverageReturn(
                period_end=instant(at_ms - 1000),
                credits=Decimal(2),
                overage_price="0.03",
                amount="0.06",
                currency="EUR",
            )
        ],
        currency="EUR",
        closing=Decimal("98.5"),
        last_entry_seq=offset + 1,
        accepted_at=instant(at_ms),
        partition=partition,
        offset=offset,
        partition_seq=offset + 1,
    )
    return record(ACCOUNT_STATEMENTS, model, account_id, at_ms)


def alert(account_id: str, *, partition: int, offset: int, at_ms: int = NOW_MS) -> Record:
    model = AccountAlert(
        alert_id=f"{account_id}:{offset}",
        account_id=account_id,
        kind="threshold",
        threshold=80,
        used=Decimal(80),
        base=Decimal(100),
        period_start=instant(at_ms - 1000),
        period_end=instant(at_ms + 1000),
        accepted_at=instant(at_ms),
        partition=partition,
        offset=offset,
        partition_seq=offset + 1,
    )
    return record(ACCOUNT_ALERTS, model, account_id, at_ms)


def dead_letter(*, partition: int, offset: int, at_ms: int = NOW_MS) -> Record:
    model = DeadLetter(
        reason="malformed_json",
        detail="expected JSON",
        pointer="",
        account_id="",
        event_id=f"event-{partition}-{offset}",
        source="",
        type="",
        accepted_at=instant(at_ms),
        partition=partition,
        offset=offset,
        partition_seq=offset + 1,
        key_base64="",
        payload_base64="e30=",
        headers=[Header(name="h", value_base64="")],
    )
    return record(DEAD_LETTERS, model, "", at_ms)


def charged(account_id: str, *, partition: int, offsets: range, at_ms: int = NOW_MS) -> list[Record]:
    """What the worker says about charged events: a metered record, an entry and a balance for each."""
    return [
        made
        for offset in offsets
        for made in (
            metered(account_id, partition=partition, offset=offset, at_ms=at_ms),
            entry(account_id, partition=partition, offset=offset, at_ms=at_ms),
            balance(account_id, partition=partition, offset=offset, at_ms=at_ms),
        )
    ]


class Worker:
    """Publishes as the worker does: one transaction a batch, into the partition of the cause."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._producer: Producer = producer(settings.kafka, transactional_id="test-worker")
        self._producer.init_transactions(20)

    def publish(self, partition: int, records: Sequence[Record], *, commit: bool = True) -> None:
        self._producer.begin_transaction()
        for topic, key, value, timestamp_ms in records:
            name = topic_name(self._kafka, topic)
            self._producer.produce(name, value, key, partition=partition, timestamp=timestamp_ms)
        if commit:
            self._producer.commit_transaction(20)
        else:
            self._producer.flush(20)
            self._producer.abort_transaction(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Of a deployment's tables, raw: a row that stands there twice shows."""

    metered: int
    entries: int
    accounts: int
    statements: int
    alerts: int
    dead_letters: int
    rolled_up: int
    credits: Decimal


def totals(client: Client) -> Totals:
    (row,) = client.query(
        "SELECT (SELECT count() FROM metered_records), (SELECT count() FROM ledger_entries), "
        "(SELECT count() FROM account_balances FINAL), (SELECT count() FROM account_statements), "
        "(SELECT count() FROM account_alerts), (SELECT count() FROM dead_letters), "
        "(SELECT sum(records) FROM usage_daily), (SELECT sum(credits) FROM usage_daily)"
    ).result_rows
    names = ("metered", "entries", "accounts", "statements", "alerts", "dead_letters", "rolled_up", "credits")
    return Totals(**dict(zip(names, row, strict=True)))


def wait_for_totals(client: Client, expected: Totals, seconds_max: float = 30) -> None:
    """Waits for all rows, then compares everything, so that the difference is shown."""
    stack.wait_until(
        f"{expected}, found {totals(client)}",
        lambda: totals(client).metered >= expected.metered and totals(client).rolled_up >= expected.rolled_up,
        seconds_max,
    )
    stack.wait_until(f"{expected}", lambda: totals(client) == expected, 5)


def prepare(settings: Settings, *, partitions: int = 2, **sink: Any) -> Settings:
    """A deployment with topics and tables, and a sink that cuts often."""
    small = {"batch_age_ms_max": 20, **QUICK, **sink}
    prepared = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"partitions": partitions}),
            "sink": settings.sink.model_copy(update=small),
        }
    )
    ensure_topics(prepared)
    migrate(prepared)
    return prepared


class SinkProcess:
    """`creditstream`'s sink as a process of its own, with its output in a file."""

    def __init__(self, settings: Settings, log: Path, **environment: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUN],
                env={**child_environment(settings), **sink_environment(settings), **environment},
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds_max: float = 20) -> int:
        return self._process.wait(seconds_max)

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        if self.code is None:
            self.send(signal.SIGKILL)
            self.wait()


@contextmanager
def sinks(settings: Settings, count: int = 1) -> Generator[list[SinkProcess], None, None]:
    """That many sinks. A test may put further ones into the list; all are ended."""
    started = [SinkProcess(settings, settings.home / f"sink-{number}.log") for number in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.end()


@contextmanager
def serving(settings: Settings) -> Generator[list[BaseException], None, None]:
    """A sink in a thread; yields where its end is told."""
    stop, ended = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            serve(settings, stop)
        except Exception as error:  # noqa: BLE001  (told to the test)
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join(30)


def sink_environment(settings: Settings) -> dict[str, str]:
    """What a sink needs to know of a deployment that no state directory describes."""
    kafka, clickhouse = settings.kafka, settings.clickhouse
    named = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "KAFKA__PARTITIONS": kafka.partitions,
        "CLICKHOUSE__URL": clickhouse.url,
        "CLICKHOUSE__DATABASE": clickhouse.database,
        "CLICKHOUSE__USER": clickhouse.user,
        "CLICKHOUSE__PASSWORD": clickhouse.password.get_secret_value(),
        "CLICKHOUSE__INSERT_TIMEOUT_SECONDS": clickhouse.insert_timeout_seconds,
        **{f"SINK__{name.upper()}": value for name, value in settings.sink.model_dump().items()},
    }
    return {f"CREDITSTREAM_{name}": str(value) for name, value in named.items()}


def topic_ids(settings: Settings) -> dict[str, str]:
    """The broker's ids of the topics that the sink reads."""
    broker = admin(settings.kafka)
    names = [topic_name(settings.kafka, topic) for topic in TABLES]
    return {name: topic_id(broker, name, timeout_seconds=10) for name in names}
