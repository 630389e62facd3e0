"""The reconciler: compares all the time, leaves its marks in Kafka, and tells Prometheus.

One is enough; a second one does the same work and says the same. It writes nothing but its marks.
"""

import gc
import logging
import os
import threading
import time
from contextlib import closing
from typing import Final

from prometheus_client import Gauge

from pipeline.clickhouse import ClickHouseError, open_client
from pipeline.kafka import KafkaException, producer
from pipeline.logs import log_to_stderr
from pipeline.reconcile.following import Followed, Follower
from pipeline.reconcile.marks import newest_marks, write_marks
from pipeline.reconcile.topics import Log
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import Settings
from pipeline.stopping import stop_asked
from pipeline.telemetry import Register, listen
from schemas.reconcile_mark import ReconcileMark

NICENESS: Final = 10
"""Who does the work goes first on full processors; this one then falls behind, which is seen."""
READ_AHEAD_BYTES: Final = 4_194_304
"""Stretches are short, and what is fetched beyond one is thrown away."""

_LOG: Final = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Compare until SIGTERM or SIGINT."""
    log_to_stderr(settings.log)
    os.nice(NICENESS)
    metrics = Metrics()
    listen(settings.metrics, metrics.registry)
    # A stretch is read into short-lived objects, which the collector would walk again and again as they grow: two
    # thirds of the time that decoding takes. So it runs between turns, and does not walk what is loaded.
    gc.disable()
    gc.freeze()
    serve(settings, stop_asked(), metrics)


def serve(settings: Settings, stop: threading.Event, metrics: "Metrics") -> None:
    """As `run`, until `stop` is set. While Kafka or ClickHouse is away nothing is compared, and that is said."""
    while not stop.is_set():
        try:
            _follow(settings, stop, metrics)
        except (ClickHouseError, KafkaException, TimeoutError) as error:
            _LOG.warning("cannot compare now: %s", (str(error).splitlines() or [repr(error)])[0])
            stop.wait(settings.reconciler.turn_seconds)


def _follow(settings: Settings, stop: threading.Event, metrics: "Metrics") -> None:
    client, log, writer = (
        open_client(settings.clickhouse),
        Log(settings.kafka, read_ahead_bytes=READ_AHEAD_BYTES),
        producer(settings.kafka),
    )
    with closing(client), closing(log):
        follower = Follower(settings, log, Warehouse(client), newest_marks(log, settings), wait=stop.wait)
        while not stop.is_set():
            due = time.monotonic() + settings.reconciler.turn_seconds
            has_more = follower.turn()
            marks = follower.marks()
            write_marks(writer, settings, marks)
            for followed, mark in zip(follower.partitions, marks, strict=True):
                metrics.tell(followed, mark)
            gc.collect()
            if not has_more:
                stop.wait(max(due - time.monotonic(), 0))


class Metrics:
    """What `/metrics` says, by partition."""

    def __init__(self) -> None:
        of = Register()
        self.registry = of.registry

        def gauge(name: str, what: str) -> Gauge:
            return of.gauge(name, what, "partition")

        self._equal = gauge("reconcile_equal_up_to_offset", "Before this input offset nothing differs")
        self._compared = gauge("reconcile_compared_up_to_offset", "Compared before this input offset")
        self._log_end = gauge("log_end_offset", "Where the input log ends")
        self._differences = gauge("reconcile_differences", "Differences that stand")
        self._rounds = gauge("reconcile_rounds", "Times that all was compared again")
        self._at = gauge("reconcile_compared_timestamp_seconds", "When it was compared last")
        self._worker = gauge("reconcile_worker_lag_records", "Input records without an answer")
        self._sink = gauge("reconcile_sink_lag_offsets", "Offsets of outcomes that are not in ClickHouse")

    def tell(self, followed: Followed, mark: ReconcileMark) -> None:
        progress = followed.progress
        assert progress is not None, "asked for in every turn"
        for gauge, value in (
            (self._equal, mark.equal_up_to),
            (self._compared, mark.compared_up_to),
            (self._log_end, progress.log_ends),
            (self._differences, mark.differences_total),
            (self._rounds, mark.rounds),
            (self._at, mark.compared_at.timestamp()),
            (self._worker, progress.worker_lag),
            (self._sink, progress.sink_lag),
        ):
            gauge.labels(str(mark.partition)).set(value)
