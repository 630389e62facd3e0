"""How far each partition has come: where its log ends, where its worker's cursor stands, what its sink has stored."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.kafka import topic_name
from pipeline.reconcile.stored import SHAPES
from pipeline.reconcile.table import CURSOR
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.sink_plan import SinkPlan
from schemas.topics import ACCOUNT_BALANCES, ACCOUNT_EVENTS, SINK_PLANS, changelog

STORED_TOPICS: Final = (*(shape.topic for shape in SHAPES), ACCOUNT_BALANCES)
"""Whatever the sink stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionProgress:
    partition: int
    log_begins: int
    log_ends: int
    read_to: int
    """The input offset that the worker reads next; 0 before the first."""
    stored_before: int
    """Before this input offset everything that was answered is in ClickHouse."""
    sink_lag: int
    """Offsets of all stored topics that are not in ClickHouse; a transaction's marker takes one too."""
    unread_at_ms: int | None
    """When the oldest input record was accepted that has no answer, epoch ms; None when all have one."""
    unstored_at_ms: int | None
    """The same of the oldest record that is not in ClickHouse."""

    @property
    def worker_lag(self) -> int:
        """Input records that the worker has not answered, by their offsets."""
        return max(self.log_ends - max(self.read_to, self.log_begins), 0)


def read_to_of(log: Log, settings: Settings, partition: int) -> int:
    """The input offset that the worker reads next; 0 before the first."""
    cursor = log.newest(changelog(settings.worker.app_id), partition, CURSOR)
    fields: dict[str, Any] = {} if cursor is None else orjson.loads(cursor)
    return int(fields.get("next_offset", 0))


def progress_of(log: Log, settings: Settings, partition: int) -> PartitionProgress:
    """As it is now. The cursor is asked for first: what it has passed is on the topics by then."""
    read_to = read_to_of(log, settings, partition)
    places = _stored_to(log, settings, partition)
    unstored = [
        message
        for topic, (stored_to, end) in places.items()
        if stored_to < end
        # Else the rest are markers of transactions.
        and (message := log.first(topic, partition, stored_to)) is not None
    ]
    begins, ends = log.bounds(ACCOUNT_EVENTS, partition)
    start = max(read_to, begins)
    unread = log.first(ACCOUNT_EVENTS, partition, start) if start < ends else None
    return PartitionProgress(
        partition=partition,
        log_begins=begins,
        log_ends=ends,
        read_to=read_to,
        stored_before=min([read_to, *(orjson.loads(each.value() or b"")["offset"] for each in unstored)]),
        sink_lag=sum(max(end - stored_to, 0) for stored_to, end in places.values()) if unstored else 0,
        unread_at_ms=None if unread is None else unread.timestamp()[1],
        unstored_at_ms=min((each.timestamp()[1] for each in unstored), default=None),
    )


def _stored_to(log: Log, settings: Settings, partition: int) -> dict[str, tuple[int, int]]:
    """Of each stored topic the offset that the sink stores next, by its newest plan, and where the topic ends."""
    value = log.newest(SINK_PLANS, partition, str(partition).encode())
    ranges = [] if value is None else SinkPlan.model_validate_json(value).ranges
    planned = {each.topic: each.first for each in ranges}
    return {
        topic: (max(planned.get(topic_name(settings.kafka, topic), low), low), high)
        for topic, (low, high) in log.bounds_of(STORED_TOPICS, partition).items()
    }
