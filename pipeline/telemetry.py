"""What the long-running programs count, under names that are a promise: `deploy/metrics.md` lists them, and a test
holds the list to this module. Boards and alerts rest on them.

One registry for each process; `listen` shows it. Nothing here is called once for an event, only once for a batch, a
block or a round. No label names an account, an event or a key: their number has no bound.
"""

import logging
from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from pipeline.settings import MetricsSettings

PREFIX: Final = "creditstream_"
_LATENCY: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS: Final = (1, 5, 10, 50, 100, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000)
_LOG: Final = logging.getLogger(__name__)


class Register:
    """Makes the metrics of one registry, all under our prefix. Names have their unit last."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, words, labels, registry=self.registry)

    def gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, words, labels, registry=self.registry)

    def histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(PREFIX + name, words, labels, buckets=buckets, registry=self.registry)


_OURS: Final = Register()
REGISTRY: Final = _OURS.registry

WORKER_LAG: Final = _OURS.gauge(
    "worker_lag_records", "Records of the input log that are not committed yet", "partition"
)
WORKER_BATCH: Final = _OURS.histogram("worker_batch_records", "Records of one committed batch", _ROWS)
WORKER_COMMIT: Final = _OURS.histogram(
    "worker_commit_seconds", "From a folded batch to its committed transaction", _SECONDS
)
APPEND_TO_BALANCE: Final = _OURS.histogram(
    "append_to_balance_seconds",
    "From the append time of a batch's first record to the commit that makes balances readable: its slowest",
    _LATENCY,
)
OUTCOMES: Final = _OURS.counter("outcomes", "What became of records, in committed batches", "kind", "reason")
SINK_LAG: Final = _OURS.gauge("sink_lag_records", "Records that are not stored yet", "topic", "partition")
SINK_BLOCK: Final = _OURS.histogram("sink_block_rows", "Rows of one stored block", _ROWS, "table")
SINK_INSERT: Final = _OURS.histogram(
    "sink_insert_seconds", "One insert that ClickHouse took", _SECONDS, "table"
)
SINK_REFUSED: Final = _OURS.counter(
    "sink_inserts_failed", "Inserts that ClickHouse did not take; they are repeated", "table"
)
APPEND_TO_CLICKHOUSE: Final = _OURS.histogram(
    "append_to_clickhouse_seconds",
    "From the append time of a block's first record to its insert: its slowest",
    _LATENCY,
    "table",
)
TICKS: Final = _OURS.counter("scheduler_ticks", "Rounds of ticks that every partition acknowledged")
LATE_EVENTS: Final = _OURS.counter(
    "late_lane_events", "Late usage put back; known: something of the same id stood in ClickHouse", "known"
)
PAYMENT_ORDERS: Final = _OURS.counter(
    "payments_orders", "Questions to the payment provider, by its answer", "answer"
)
PAYMENTS_WAITING: Final = _OURS.gauge("payments_waiting_orders", "Orders without an answer")


def listen(settings: MetricsSettings, registry: CollectorRegistry = REGISTRY) -> None:
    """Show the process's metrics at `/metrics`, from a thread of its own; with port 0 nothing is shown."""
    if settings.port:
        start_http_server(settings.port, settings.host, registry)
        _LOG.info("metrics at http://%s:%d/metrics", settings.host, settings.port)


def count_outcomes(counts: Mapping[tuple[str, str], int]) -> None:
    """Outcomes of one batch by kind and reason."""
    for (kind, reason), number in counts.items():
        OUTCOMES.labels(kind, reason).inc(number)
