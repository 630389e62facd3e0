"""What if the prices or plans had been others? Folds the recorded log twice, partition by partition, with the stream's
own core: as it was, and with another version in one place of the schedule. Nothing is written anywhere.

The run as recorded must end where the live table stands, to its digest: so it is seen that the difference is the
prices' and nothing else's. Memory holds one partition at a time: twice its accounts and the identities of its window.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, NamedTuple, cast

import orjson

from pipeline.bootstrap import load_core
from pipeline.boundaries import Boundaries
from pipeline.client.schedule import DeploymentReader
from pipeline.domain.credits import NO_CREDITS, Credits, parse_credits
from pipeline.domain.instants import HOUR_MS
from pipeline.emit import OutRecord
from pipeline.evidence import wanted
from pipeline.kafka import Message
from pipeline.metering import Batch, Core, Folded, LogRecord, PartitionView, initial_cursor
from pipeline.settings import Settings
from pipeline.state import (
    identity_accepted_at_ms,
    next_boundary_ms,
)
from pipeline.what_if_schedule import Change, Live, as_begun, changed
from schemas.topics import ACCOUNT_ALERTS, ACCOUNT_EVENTS, COMMAND_RESULTS, METERED_RECORDS

SLICE_RECORDS: Final = 5000
"""Folded at once, in each of the two runs."""


class LogCutError(Exception):
    """The log does not begin at its beginning any more: nobody can say what stood there."""


@dataclass(slots=True)
class Tally:
    """What became of one account in one run."""

    used: Credits = NO_CREDITS
    denied: int = 0
    """Usage and holds for which there were not enough credits."""
    limit_at: str | None = None
    """When that first happened."""


@dataclass(frozen=True, slots=True)
class Comparison:
    account_id: str
    before: Tally
    after: Tally

    @property
    def difference(self) -> Credits:
        return Credits(self.after.used - self.before.used)


@dataclass(slots=True, kw_only=True)
class Result:
    """Of all partitions. `changed` has the accounts for which anything differs."""

    records: int = 0
    accounts: int = 0
    before: Tally = field(default_factory=Tally)
    after: Tally = field(default_factory=Tally)
    changed: list[Comparison] = field(default_factory=list[Comparison])
    unlike_the_table: list[int] = field(default_factory=list[int])
    """Partitions in which the run as recorded did not end as the live table stands."""


def what_if(
    settings: Settings, changes: Sequence[Change], *, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Compare both runs up to where the live table stands. Raises LogCutError and NotComparableError."""
    core, result = load_core(settings), Result()
    reader = DeploymentReader(settings)
    try:
        for partition in range(settings.kafka.partitions):
            cursor, published = reader.table(partition)
            if cursor is None:
                continue
            low, _ = reader.bounds(ACCOUNT_EVENTS, partition)
            if low > 0:
                raise LogCutError(f"partition {partition} of {ACCOUNT_EVENTS} begins at offset {low}")
            progress(f"partition {partition}: {cursor.partition_seq} records")
            live = Live(partition, cursor, published)
            corrected = {place.event_offset for place in wanted(_log(reader, live), core)}
            compare(core, live, _log(reader, live), changes, result, corrected=corrected)
    finally:
        reader.close()
    result.changed.sort(key=lambda each: (-abs(each.difference), each.account_id))
    return result


def compare(
    core: Core,
    live: Live,
    log: Iterable[LogRecord],
    changes: Sequence[Change],
    result: Result,
    *,
    corrected: Collection[int] = (),
) -> None:
    """Fold the log of one partition in both runs and add what came of it. Raises NotComparableError.

    `corrected`: offsets of usage that commands further on correct; each run remembers what it said of them.
    """
    recorded = _Run(replace(core, bundled=as_begun(live)), live.partition, corrected)
    other = _Run(replace(core, bundled=changed(live, changes)), live.partition, corrected)
    rest = iter(log)
    while records := list(islice(rest, SLICE_RECORDS)):
        recorded.fold(records)
        other.fold(records)
    ended, stands = recorded.cursor, live.cursor
    if (ended.digest, ended.partition_seq) != (stands.digest, stands.partition_seq):
        result.unlike_the_table.append(live.partition)
    _add(result, ended.partition_seq, recorded, other)


def _add(result: Result, records: int, recorded: "_Run", other: "_Run") -> None:
    result.records += records
    result.accounts += len(recorded.accounts)
    for total, run in ((result.before, recorded), (result.after, other)):
        total.used = Credits(total.used + sum(each.used for each in run.tallies.values()))
        total.denied += sum(each.denied for each in run.tallies.values())
        limits = [each.limit_at for each in (total, *run.tallies.values()) if each.limit_at is not None]
        total.limit_at = min(limits, default=None)
    for account in recorded.tallies.keys() | other.tallies.keys():
        before, after = recorded.tallies.get(account, Tally()), other.tallies.get(account, Tally())
        if before != after:
            result.changed.append(Comparison(account, before, after))


class Logged(NamedTuple):
    """One record of the log, as `pipeline.validate.LogRecord` has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def _log(reader: DeploymentReader, live: Live) -> Iterator[Logged]:
    messages = reader.messages(ACCOUNT_EVENTS, live.partition, 0, live.cursor.next_offset)
    return map(_logged, messages)


def _logged(message: Message) -> Logged:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    offset = message.offset()
    assert offset is not None, "a record that was read has an offset"
    return Logged(offset, message.timestamp()[1], message.key(), message.value(), headers)


class _Run:
    """One partition in memory, and what became of its accounts."""

    def __init__(self, core: Core, partition: int, corrected: Collection[int]) -> None:
        self._core = core
        self._partition = partition
        self._corrected = corrected
        self._past: dict[int, bytes] = {}
        self.cursor = initial_cursor(core, "what-if")
        self._published: dict[bytes, bytes] = {}
        self.accounts: dict[bytes, bytes] = {}
        self._identities = _Identities(core.rules.identity_ms)
        self._boundaries = Boundaries()
        self.tallies: dict[str, Tally] = {}

    def fold(self, records: Iterable[LogRecord]) -> None:
        view = PartitionView(
            partition=self._partition,
            cursor=self.cursor,
            published=self._published,
            accounts=self.accounts,
            identities=self._identities.answers,
            due_accounts=self._boundaries.due,
        )
        batch = Batch(self._core, view)
        batch.feed(records, self._past)
        folded = batch.finish()
        self._apply(folded)
        for record in folded.records:
            self._count(record)

    def _apply(self, folded: Folded) -> None:
        self._published.update(folded.published)
        self.accounts.update(folded.accounts)
        self._boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        self._identities.add(folded.identities, folded.cursor.clock_ms)
        self.cursor = folded.cursor

    def _count(self, record: OutRecord) -> None:
        if record.topic not in _COUNTED:
            return
        said = orjson.loads(record.value)
        tally = self.tallies.get(said["account_id"])
        if tally is None:
            tally = self.tallies[said["account_id"]] = Tally()
        if record.topic == METERED_RECORDS:
            tally.used = Credits(tally.used + parse_credits(said["credits"]))
            tally.denied += said["outcome"] == "denied"
            if said["offset"] in self._corrected:
                self._past[said["offset"]] = record.value
        elif record.topic == COMMAND_RESULTS:
            tally.denied += said["shortage"] is not None
        elif said["kind"] == "limit_reached" and tally.limit_at is None:
            tally.limit_at = said["accepted_at"]


_COUNTED: Final = frozenset({METERED_RECORDS, COMMAND_RESULTS, ACCOUNT_ALERTS})


class _Identities:
    """What has been answered, for as long as it counts: whole hours are forgotten some time after."""

    def __init__(self, keep_ms: int) -> None:
        self.answers: dict[bytes, bytes] = {}
        self._keep_ms = keep_ms
        self._hours: deque[tuple[int, list[bytes]]] = deque()

    def add(self, identities: Mapping[bytes, bytes], clock_ms: int) -> None:
        hour = clock_ms // HOUR_MS
        if not self._hours or self._hours[-1][0] < hour:
            self._hours.append((hour, []))
        self._hours[-1][1].extend(identities)
        self.answers.update(identities)
        horizon_ms = clock_ms - self._keep_ms
        while (self._hours[0][0] + 1) * HOUR_MS <= horizon_ms:
            for key in self._hours.popleft()[1]:
                answer = self.answers.get(key)
                if answer is not None and identity_accepted_at_ms(answer) < horizon_ms:
                    del self.answers[key]
