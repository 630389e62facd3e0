"""Reconcile a deployment: fix the watermarks, wait for the sink to pass them, compare partition by partition."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from pipeline.clickhouse import open_client
from pipeline.reconcile.partition import PartitionCheck
from pipeline.reconcile.report import (
    DIFFERENCES_LISTED_MAX,
    Difference,
    Findings,
    Kind,
    PartitionReport,
    Report,
)
from pipeline.reconcile.schedules import check_schedules
from pipeline.reconcile.stored import SHAPES, Row, Shape
from pipeline.reconcile.table import Table, read_table
from pipeline.reconcile.topics import Log
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import Settings

SINK_WAIT_SECONDS: Final = 60
"""How long the sink may need to reach the watermark; what is not there by then is a difference."""
SINK_POLL_SECONDS: Final = 0.2


def _silent(_: str) -> None:
    return None


def reconcile(
    settings: Settings,
    *,
    sink_wait_seconds: float = SINK_WAIT_SECONDS,
    listed_max: int = DIFFERENCES_LISTED_MAX,
    progress: Callable[[str], None] = _silent,
) -> Report:
    """Compare everything that was committed when this was called. The pipeline may go on meanwhile."""
    client, log = open_client(settings.clickhouse), Log(settings.kafka)
    try:
        return _reconcile(settings, log, Warehouse(client), sink_wait_seconds, listed_max, progress)
    finally:
        log.close()
        client.close()


def _reconcile(
    settings: Settings,
    log: Log,
    warehouse: Warehouse,
    sink_wait_seconds: float,
    listed_max: int,
    progress: Callable[[str], None],
) -> Report:
    findings = Findings(listed_max)
    deadline = time.monotonic() + sink_wait_seconds
    progress("reading the table")
    app_id, partitions = settings.worker.app_id, range(settings.kafka.partitions)
    tables = [read_table(log, app_id, partition) for partition in partitions]
    check_schedules(tables, findings)
    checked: list[PartitionReport] = []
    for table in tables:
        progress(f"partition {table.partition}: waiting for the sink to pass offset {table.next_offset}")
        _wait_for_sink(log, warehouse, table, deadline)
        progress(f"partition {table.partition}: comparing up to offset {table.next_offset}")
        checked.append(PartitionCheck(log, table, warehouse, findings).run())
    progress("comparing the daily rollup")
    _check_rollup(warehouse, findings, deadline)
    return _report(checked, findings)


def _wait_for_sink(log: Log, warehouse: Warehouse, table: Table, deadline: float) -> None:
    for shape in SHAPES:
        last = log.last_cause(shape.topic, table.partition, before=table.next_offset)
        _wait_until(partial(_passed, warehouse, shape, table.partition, last), deadline)


def _passed(warehouse: Warehouse, shape: Shape, partition: int, last: int) -> bool:
    return warehouse.newest_offset(shape, partition) >= last


def _wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether it came true in time. Asks at least once."""
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(SINK_POLL_SECONDS)
    return True


def _check_rollup(warehouse: Warehouse, findings: Findings, deadline: float) -> None:
    """A running sink adds to rows and rollup one after the other: only what stays different differs."""
    lines: list[Row] = []

    def equal() -> bool:
        lines[:] = warehouse.rollup_differences()
        return not lines

    if not _wait_until(equal, deadline):
        for day, account, *key, expected, found in lines:
            findings.add(
                Difference(
                    kind=Kind.ROLLUP_DIFFERS,
                    where="usage_daily",
                    partition=-1,
                    offset=-1,
                    account_id=account,
                    event_id="",
                    expected=f"{day} {' '.join(key)}: {expected}",
                    found=found,
                )
            )


def _report(checked: list[PartitionReport], findings: Findings) -> Report:
    outcomes: Counter[str] = Counter()
    for partition in checked:
        outcomes.update(partition.outcomes)
    return Report(
        partitions=tuple(checked),
        outcomes=dict(sorted(outcomes.items())),
        records=sum(each.records for each in checked),
        accounts=sum(each.accounts for each in checked),
        charged_micros=sum(each.charged_micros for each in checked),
        differences=tuple(findings.listed),
        differences_total=findings.counts.total(),
        counts=dict(sorted(findings.counts.items())),
    )
