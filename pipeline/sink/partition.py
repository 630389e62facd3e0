"""One partition of all stored topics at one sink: reads ahead, plans, inserts, one plan after the other.

Begins with what its predecessor left: a plan that is not known to be inserted is read and inserted again first,
exactly as it was written. Then: write the next plan, insert it, and so on. Never two at a time.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final

from pipeline import tracing
from pipeline.client.origin import now
from pipeline.crash_points import Phase, reached
from pipeline.sink.insert import Inserter
from pipeline.sink.plan import BlockLimits, Buffer, cycle_seconds, is_covered, is_due, next_plan, settled
from pipeline.sink.plan_log import PlanLog
from pipeline.telemetry import APPEND_TO_CLICKHOUSE
from schemas.sink_plan import SinkPlan

_steps: Final = logging.getLogger(f"{__name__}.steps")
"""Silent unless a bench asks: step and topic, partition, and the millisecond after the newest record of the block."""
RENEW_SECONDS: Final = 20
"""An idle sink says so often again how far it is. One that was fenced, because the tables were made anew or by a
successor of which it knows nothing, hears of it then and ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all partitions of one sink share."""

    inserter: Inserter
    pool: Executor
    limits: BlockLimits
    age_seconds_max: float


class SinkPartition:
    """Called from one thread only; its work runs in the pool, one task at a time."""

    def __init__(
        self,
        number: int,
        *,
        log: PlanLog,
        plan: SinkPlan | None,
        buffers: Mapping[str, Buffer],
        topic_ids: Mapping[str, str],
        tools: Tools,
    ) -> None:
        self.number = number
        self.buffers = buffers
        self._log = log
        self._topic_ids = topic_ids
        self._fill = "" if plan is None else plan.fill
        self._tools = tools
        self._replay = plan if plan is not None and not plan.inserted else None
        self._fenced_at = time.monotonic()
        self._settled = plan is None or plan.inserted
        self._renew_at = self._fenced_at + RENEW_SECONDS
        self._work: Future[None] | None = None
        self._given_up = threading.Event()
        self._waiting_since: float | None = None
        self._cut_at = -math.inf
        self._worked_seconds = 0.0
        self._oldest_ms: dict[str, int] = {}
        self._ends_ms: dict[str, int] = {}
        self._traced: deque[tuple[str, int, Sequence[tuple[str, bytes | None]]]] = deque()
        """Records that are read and not yet planned and come with a trace, as topic, offset and headers."""

    @property
    def is_busy(self) -> bool:
        return self._work is not None and not self._work.done()

    def inserted_to(self) -> dict[str, int]:
        """Up to where each topic is stored, for those who watch the lag."""
        return (
            {}
            if self._work or self._replay
            else {name: buffer.first for name, buffer in self.buffers.items()}
        )

    def add(self, topic: str, offset: int, timestamp_ms: int, value: bytes | None) -> None:
        self.buffers[topic].add(offset, timestamp_ms, value)

    def trace(self, topic: str, offset: int, headers: Sequence[tuple[str, bytes | None]]) -> None:
        """Remember that the record has headers, as long as there is room: they say in which trace it is."""
        if headers and len(self._traced) < tracing.TRACES_MAX:
            self._traced.append((topic, offset, headers))

    def wants(self, topic: str) -> bool:
        """Whether more records of `topic` may be read into memory. A plan to repeat is read whole."""
        if self._replay is not None and not is_covered(self._replay, self.buffers):
            return any(
                planned.topic == topic and planned.end > self.buffers[topic].read_to
                for planned in self._replay.ranges
            )
        return not self.buffers[topic].is_full(self._tools.limits)

    def step(self, now: float) -> None:
        """Begin what can be begun. Raises what went wrong in the pool."""
        if self._work is not None:
            if not self._work.done():
                return
            self._work.result()
            self._work = None
        if self._replay is not None:
            if is_covered(self._replay, self.buffers):
                plan, self._replay = self._replay, None
                self._begin(plan, self._take(plan), is_written=True)
        elif self._is_ready(now):
            self._cut_at = now
            plan = next_plan(self.number, self.buffers, self._topic_ids, self._tools.limits, fill=self._fill)
            self._begin(plan, self._take(plan), is_written=False)
        elif self._is_idle() and (not self._settled or now >= self._renew_at):
            self._settled, self._renew_at = True, now + RENEW_SECONDS
            plan = settled(self.number, self.buffers, self._topic_ids, fill=self._fill)
            self._work = self._tools.pool.submit(self._log.write, plan)

    def give_up(self) -> None:
        """The partition is another's, or the process ends. What is in flight is safe under its token."""
        self._given_up.set()

    def _begin(self, plan: SinkPlan, blocks: Mapping[str, Sequence[bytes]], *, is_written: bool) -> None:
        self._settled = False
        self._waiting_since = None
        work = self._repeat if is_written else self._write_and_insert
        self._work = self._tools.pool.submit(work, plan, blocks, self._traces_of(plan))

    def _traces_of(self, plan: SinkPlan) -> tracing.Traces:
        traces, ends = tracing.of_batch("store", self.number), {each.topic: each.end for each in plan.ranges}
        waiting, self._traced = self._traced, deque()
        for each in waiting:
            topic, offset, headers = each
            if offset < ends.get(topic, 0):
                traces.take(topic, offset, headers)
            else:
                self._traced.append(each)
        return traces

    def _write_and_insert(
        self, plan: SinkPlan, blocks: Mapping[str, Sequence[bytes]], traces: tracing.Traces
    ) -> None:
        begun = time.monotonic()
        reached(Phase.SINK_PLANNING, self.number)
        self._log.write(plan)
        planned_at = time.monotonic()
        self._note("planned")
        reached(Phase.SINK_PLANNED, self.number)
        self._tools.inserter.insert(plan, blocks, since=planned_at, given_up=self._given_up)
        reached(Phase.SINK_INSERTED, self.number)
        traces.end()
        self._measure()
        self._worked_seconds = time.monotonic() - begun

    def _repeat(self, plan: SinkPlan, blocks: Mapping[str, Sequence[bytes]], traces: tracing.Traces) -> None:
        reached(Phase.SINK_REPEATING, self.number)
        self._tools.inserter.insert(plan, blocks, since=self._fenced_at, given_up=self._given_up)
        traces.end()

    def _measure(self) -> None:
        """How long the first record of each block took to get here; of a plan that is repeated that says nothing."""
        stored_at = now()
        for topic, appended_at in self._oldest_ms.items():
            table = self._tools.inserter.table_of(topic)
            APPEND_TO_CLICKHOUSE.labels(table).observe(max(stored_at - appended_at, 0) / 1000)

    def _take(self, plan: SinkPlan) -> dict[str, list[bytes]]:
        self._oldest_ms = {
            planned.topic: rows[0].timestamp_ms
            for planned in plan.ranges
            if (rows := self.buffers[planned.topic].rows) and rows[0].offset < planned.end
        }
        if _steps.isEnabledFor(logging.DEBUG):
            self._ends_ms = {
                planned.topic: max(row.timestamp_ms for row in rows if row.offset < planned.end) + 1
                for planned in plan.ranges
                if (rows := self.buffers[planned.topic].rows) and rows[0].offset < planned.end
            }
            self._note("taken")
        return {planned.topic: self.buffers[planned.topic].take(planned.end) for planned in plan.ranges}

    def _note(self, step: str) -> None:
        for topic, end_ms in self._ends_ms.items():
            _steps.debug("%s:%s %d %d", step, topic, self.number, end_ms)

    def _is_ready(self, now: float) -> bool:
        if not any(buffer.rows for buffer in self.buffers.values()):
            return False
        if self._waiting_since is None:
            self._waiting_since = now
        if any(buffer.is_full(self._tools.limits) for buffer in self.buffers.values()):
            return True
        cycle = cycle_seconds(self._tools.age_seconds_max, self._worked_seconds)
        return is_due(now - self._waiting_since, now - self._cut_at, cycle)

    def _is_idle(self) -> bool:
        return all(buffer.at_end and not buffer.rows for buffer in self.buffers.values())
