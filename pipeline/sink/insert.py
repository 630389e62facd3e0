"""Inserts the blocks of a plan, each under its own token, as often as it takes within a bound.

Repeating is harmless as long as the tables remember the token. They remember a fixed number of blocks, so a plan
that has grown old (a process that was stopped and continued) is not inserted any more: the process ends, and its
successor fences and reads what the newest plan is.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pipeline.clickhouse import ClickHouseError, Client, insert_block
from pipeline.crash_points import Phase, reached
from pipeline.sink.plan import block_token
from pipeline.telemetry import SINK_BLOCK, SINK_INSERT, SINK_REFUSED
from schemas.sink_plan import PlannedRange, SinkPlan
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_BALANCES,
    ACCOUNT_STATEMENTS,
    ALERT_DELIVERIES,
    DEAD_LETTERS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
    TOPUP_ORDERS,
)

TABLES: Final[Mapping[str, str]] = {
    METERED_RECORDS: "metered_records",
    LEDGER_ENTRIES: "ledger_entries",
    ACCOUNT_ALERTS: "account_alerts",
    ACCOUNT_BALANCES: "account_balances",
    ACCOUNT_STATEMENTS: "account_statements",
    ALERT_DELIVERIES: "alert_deliveries",
    TOPUP_ORDERS: "topup_orders",
    DEAD_LETTERS: "dead_letters",
}
"""Topic → table: all that the sink stores."""

PLAN_AGE_SECONDS_MAX: Final = 900
"""Since the plan was written or read. Four partitions that insert every 250 ms take 50 minutes to push a block
out of a window of 50,000 (schemas/clickhouse)."""
BACK_OFF_SECONDS_MIN: Final = 0.1
"""The first repeat comes soon: a connection that the server had closed meanwhile is the usual reason."""
BACK_OFF_SECONDS_MAX: Final = 5.0

_LOG: Final = logging.getLogger(__name__)


class InsertFailedError(Exception):
    """ClickHouse did not take a block within the bounds. Nothing is lost: the plan stands in Kafka."""


class Inserter:
    """Stores planned blocks. Safe to share between threads."""

    def __init__(self, client: Client, tables: Mapping[str, str], *, attempts_max: int) -> None:
        self._client = client
        self._tables = tables
        self._attempts_max = attempts_max

    def table_of(self, topic: str) -> str:
        """The table of a topic, by the topic's name on the cluster."""
        return self._tables[topic]

    def insert(
        self,
        plan: SinkPlan,
        blocks: Mapping[str, Sequence[bytes]],
        *,
        since: float,
        given_up: threading.Event,
    ) -> None:
        """Store every block of `plan`. `since` is when it was last known to be the newest; the end of
        ownership (`given_up`) ends the repeats."""
        for planned in plan.ranges:
            rows = blocks[planned.topic]
            if rows:
                self._insert_block(plan, planned, rows, since, given_up)
                reached(Phase.SINK_INSERTING, plan.partition)

    def _insert_block(
        self,
        plan: SinkPlan,
        planned: PlannedRange,
        rows: Sequence[bytes],
        since: float,
        given_up: threading.Event,
    ) -> None:
        table, token = self._tables[planned.topic], block_token(plan.partition, planned, plan.mapping)
        block = b"\n".join(rows)
        pause = BACK_OFF_SECONDS_MIN
        last: ClickHouseError | None = None
        for attempt in range(1, self._attempts_max + 1):
            if given_up.is_set():
                return
            _refuse_old(token, since)
            begun = time.monotonic()
            try:
                insert_block(self._client, table, block, token=token, fill=plan.fill)
            except ClickHouseError as error:
                where = {
                    "table": table,
                    "partition": plan.partition,
                    "offset": planned.first,
                    "attempt": attempt,
                }
                _LOG.warning("insert_failed token=%s error=%s", token, error, extra=where)
                SINK_REFUSED.labels(table).inc()
                last = error
            else:
                SINK_INSERT.labels(table).observe(time.monotonic() - begun)
                SINK_BLOCK.labels(table).observe(len(rows))
                return
            given_up.wait(pause)
            pause = min(pause * 2, BACK_OFF_SECONDS_MAX)
        raise InsertFailedError(
            f"ClickHouse did not take the block {token} of {table} in {self._attempts_max} attempts: {last}"
        ) from last


def _refuse_old(token: str, since: float) -> None:
    age = time.monotonic() - since
    if age > PLAN_AGE_SECONDS_MAX:
        raise InsertFailedError(
            f"the plan of {token} is {age:.0f} s old, at most {PLAN_AGE_SECONDS_MAX} s are safe: this process was "
            "stopped, or ClickHouse was away. A new process fences and inserts the newest plan."
        )
