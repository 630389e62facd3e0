"""Follows a deployment and says for each partition up to where log, ledger and ClickHouse are equal.

Two hands go over each partition. The first compares what is new, stretch by stretch, and leaves a mark. The second goes
round behind it, a stretch at a time, so that what is altered later is found too; it moves only when nothing is new, and
rests so long after each step that it takes a small part of the time: no index helps with what is old. A difference is
one that still stands at a second look; it is named until the stretch that it is in is compared again and found equal.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pipeline.reconcile.progress import PartitionProgress, progress_of, read_to_of
from pipeline.reconcile.report import Difference, Kind
from pipeline.reconcile.stored import SHAPES
from pipeline.reconcile.stretch import Stretch, compare_stretch, next_stretch
from pipeline.reconcile.topics import Log
from pipeline.reconcile.warehouse import Warehouse
from pipeline.settings import Settings
from schemas.reconcile_mark import DIFFERENCES_MAX, MarkedDifference, ReconcileMark

SECOND_LOOK_SECONDS: Final = 1.0
"""A replica may be a moment behind what was inserted."""
BEYOND_SECONDS: Final = 60
"""Between two looks for rows that the log does not know, which no index helps with."""
HANDS: Final = 2
DIFFERENCES_HELD_MAX: Final = 1000
"""Of one partition; what comes beyond them is found in another round."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """One partition. All offsets are of the input log."""

    partition: int
    compared_up_to: int = 0
    reviewed_up_to: int = 0
    rounds: int = 0
    differences: list[Difference] = field(default_factory=list[Difference])
    beyond: list[Difference] = field(default_factory=list[Difference])
    """Rows of ClickHouse that the log does not know."""
    progress: PartitionProgress | None = None
    places: dict[int, Mapping[str, int]] = field(default_factory=dict[int, Mapping[str, int]])
    """Of the hands: input offset → where on each topic to look for what it has caused."""

    def mark(self, now: datetime) -> ReconcileMark:
        found = sorted((*self.differences, *self.beyond), key=lambda each: each.offset)
        equal = min([self.compared_up_to, *(max(each.offset, 0) for each in found)])
        return ReconcileMark(
            partition=self.partition,
            compared_up_to=self.compared_up_to,
            equal_up_to=equal,
            reviewed_up_to=self.reviewed_up_to,
            rounds=self.rounds,
            compared_at=now,
            differences_total=len(found),
            differences=[_marked(each) for each in found[:DIFFERENCES_MAX]],
        )


def followed_from(mark: ReconcileMark) -> Followed:
    """Where the last reconciler was. What it named first is looked at again first."""
    named = [_unmarked(mark.partition, each) for each in mark.differences]
    return Followed(
        partition=mark.partition,
        compared_up_to=mark.compared_up_to,
        reviewed_up_to=min(mark.reviewed_up_to, mark.equal_up_to) if named else mark.reviewed_up_to,
        rounds=mark.rounds,
        differences=[each for each in named if each.offset < mark.compared_up_to],
    )


class Follower:
    """Takes turns over all partitions with one Kafka and one ClickHouse client."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        warehouse: Warehouse,
        marks: list[ReconcileMark],
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._settings = settings
        self._log = log
        self._warehouse = warehouse
        self._wait = wait
        self._beyond_at = 0.0
        self._review_at = 0.0
        begun = {mark.partition: followed_from(mark) for mark in marks}
        self.partitions = [
            begun.get(each) or Followed(partition=each) for each in range(settings.kafka.partitions)
        ]

    def turn(self) -> bool:
        """One step in each partition. Whether there is more to compare at once; if not, the second hand is due."""
        more = [self._step(each) for each in self.partitions]
        begun = time.monotonic()
        if not any(more) and begun >= self._review_at:
            for each in self.partitions:
                self._review(each)
            ended = time.monotonic()
            rest = (ended - begun) * (100 / self._settings.reconciler.review_percent_max - 1)
            self._review_at = ended + rest
        if time.monotonic() >= self._beyond_at:
            self._look_beyond()
            self._beyond_at = time.monotonic() + BEYOND_SECONDS
        return any(more)

    def marks(self) -> list[ReconcileMark]:
        now = datetime.now(UTC)  # noqa: TID251  (the shell: when it was said)
        return [each.mark(now) for each in self.partitions]

    def _step(self, followed: Followed) -> bool:
        progress = followed.progress = progress_of(self._log, self._settings, followed.partition)
        begin = progress.log_begins
        # Where the sink begins anew, after ClickHouse was rebuilt, the mark goes back with it.
        followed.compared_up_to = max(min(followed.compared_up_to, progress.stored_before), begin)
        followed.reviewed_up_to = max(followed.reviewed_up_to, begin)
        records_max = self._settings.reconciler.records_max
        reached = self._compare(followed, followed.compared_up_to, records_max)
        has_moved = reached > followed.compared_up_to
        followed.compared_up_to = max(reached, followed.compared_up_to)
        return has_moved and reached < progress.stored_before

    def _review(self, followed: Followed) -> None:
        assert followed.progress is not None, "asked for in the step before"
        begin = followed.progress.log_begins
        if followed.compared_up_to <= begin:
            return
        if followed.reviewed_up_to >= followed.compared_up_to:
            followed.rounds += 1
            # What differs is looked at again at once, and not only when its turn comes.
            wrong = min((each.offset for each in followed.differences), default=begin)
            followed.reviewed_up_to = max(min(wrong, followed.compared_up_to), begin)
        limits = self._settings.reconciler
        # Short, so that what is new does not wait for it.
        records_max = max(limits.records_max * limits.review_percent_max // 100, 1)
        followed.reviewed_up_to = self._compare(followed, followed.reviewed_up_to, records_max)

    def _compare(self, followed: Followed, since: int, records_max: int) -> int:
        """Compare from `since` on; returns how far."""
        stretch, differences = self._looked(followed, since, records_max, followed.places.pop(since, {}))
        if differences:
            self._wait(SECOND_LOOK_SECONDS)
            stretch, differences = self._looked(followed, since, records_max, {})
        if len(followed.places) > HANDS:
            del followed.places[next(iter(followed.places))]
        kept = [each for each in followed.differences if not stretch.since <= each.offset < stretch.before]
        followed.differences = list(dict.fromkeys([*kept, *differences]))[:DIFFERENCES_HELD_MAX]
        return stretch.before

    def _looked(
        self, followed: Followed, since: int, records_max: int, places: Mapping[str, int]
    ) -> tuple[Stretch, list[Difference]]:
        assert followed.progress is not None, "asked for at the beginning of the step"
        stretch = next_stretch(self._log, followed.progress, since, places, records_max=records_max)
        differences: list[Difference] = []
        if stretch.before > stretch.since:
            differences, places = compare_stretch(self._log, self._warehouse, stretch)
        followed.places[stretch.before] = places
        return stretch, differences

    def _look_beyond(self) -> None:
        """Rows of causes that the log does not have. Asked first: what is stored meanwhile is in the log by then."""
        ends = {each.partition: self._read_to(each) for each in self.partitions}
        rows = self._warehouse.rows_beyond(SHAPES, ends)
        after = ends if not rows else self._read_again()
        for followed in self.partitions:
            followed.beyond = [
                _unknown(table, followed.partition, offset, account)
                for table, partition, offset, account in rows
                if self._owner(partition) == followed.partition and offset >= after.get(partition, 0)
            ]

    def _read_to(self, followed: Followed) -> int:
        return followed.progress.read_to if followed.progress is not None else 0

    def _read_again(self) -> dict[int, int]:
        return {
            each.partition: read_to_of(self._log, self._settings, each.partition) for each in self.partitions
        }

    def _owner(self, partition: int) -> int:
        """Who tells of rows of a partition; of one that does not exist, the first."""
        return partition if partition < len(self.partitions) else 0


def _unknown(table: str, partition: int, offset: int, account: str) -> Difference:
    return Difference(
        kind=Kind.ROW_UNKNOWN,
        where=table,
        partition=partition,
        offset=offset,
        account_id=account,
        event_id="",
        expected="a cause in the input log",
        found=f"partition {partition} has no answered record at offset {offset}",
    )


def _marked(difference: Difference) -> MarkedDifference:
    return MarkedDifference(
        kind=difference.kind.value,
        where=difference.where,
        offset=max(difference.offset, 0),
        account_id=difference.account_id,
        event_id=difference.event_id,
        expected=difference.expected,
        found=difference.found,
    )


def _unmarked(partition: int, marked: MarkedDifference) -> Difference:
    return Difference(
        kind=Kind(marked.kind),
        where=marked.where,
        partition=partition,
        offset=marked.offset,
        account_id=marked.account_id,
        event_id=marked.event_id,
        expected=marked.expected,
        found=marked.found,
    )
