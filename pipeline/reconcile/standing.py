"""How a deployment stands, partition by partition: lags, ages, and up to where the reconciler found all equal."""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.kafka import admin
from pipeline.reconcile.marks import newest_marks
from pipeline.reconcile.progress import PartitionProgress, progress_of
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.reconcile_mark import ReconcileMark

ANSWER_SECONDS_MAX: Final = 5
"""For the broker's first answer, so that one who asks for the status of nothing is told soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    progress: PartitionProgress
    mark: ReconcileMark | None
    """None where no reconciler has run yet."""

    def as_json(self, now: datetime) -> dict[str, Any]:
        """For people and programs; ages in whole seconds, None where nothing waits."""
        progress, mark = self.progress, self.mark
        return {
            "partition": progress.partition,
            "log_end": progress.log_ends,
            "answered_up_to": progress.read_to,
            "stored_up_to": progress.stored_before,
            "worker_lag_records": progress.worker_lag,
            "worker_oldest_seconds": _age(now, progress.unread_at_ms),
            "sink_lag_offsets": progress.sink_lag,
            "sink_oldest_seconds": _age(now, progress.unstored_at_ms),
            "equal_up_to": None if mark is None else mark.equal_up_to,
            "compared_up_to": None if mark is None else mark.compared_up_to,
            "compared_seconds_ago": None if mark is None else _age(now, mark.compared_at.timestamp() * 1000),
            "differences_total": 0 if mark is None else mark.differences_total,
            "differences": [] if mark is None else [each.model_dump() for each in mark.differences],
        }


def _age(now: datetime, at_ms: float | None) -> int | None:
    return None if at_ms is None else max(int(now.timestamp() - at_ms / 1000), 0)


def standings(settings: Settings) -> list[Standing]:
    """Of all partitions. Raises KafkaException when the broker does not answer soon, or has no such topics."""
    admin(settings.kafka).list_topics(timeout=ANSWER_SECONDS_MAX)
    with closing(Log(settings.kafka)) as log:
        marks = {mark.partition: mark for mark in newest_marks(log, settings)}
        return [
            Standing(progress=progress_of(log, settings, each), mark=marks.get(each))
            for each in range(settings.kafka.partitions)
        ]
