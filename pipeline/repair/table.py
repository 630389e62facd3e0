"""Makes the changelog of a partition anew: from a snapshot and the log behind it, or from the whole log.

The log is folded by the same core as ever, in silence, up to where its outcomes end: whatever was said stays said, and
a worker goes on behind it. The rows and the digest are those that were lost, byte for byte.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from pipeline.bootstrap import load_core
from pipeline.boundaries import Boundaries
from pipeline.evidence import wanted
from pipeline.kafka import Logged, Producer, admin, logged, topic_id, topic_name
from pipeline.metering import Batch, Core, PartitionView, initial_cursor
from pipeline.reconcile.topics import Log
from pipeline.repair.snapshot import Snapshot, SnapshotError, digest_of, read_snapshot, snapshot_file
from pipeline.settings import Settings
from pipeline.state import (
    CURSOR_KEY,
    RESERVED_KEYS,
    decode_answer,
    encode_cursor,
    identity_accepted_at_ms,
    next_boundary_ms,
    unpack_identities,
)
from pipeline.stream.fencing import fence
from pipeline.stream.past import read_past
from schemas.topics import ACCOUNT_EVENTS, BATCH_OUTPUTS, IDENTITIES, changelog

SLICE_RECORDS: Final = 1000
ROWS_PER_TRANSACTION: Final = 20_000
"""The cursor is in the last one: a worker that meets less refuses it by its digest."""
REQUEST_SECONDS_MAX: Final = 30
_EVERYTHING: Final = 2**63 - 1


class TableRefusedError(Exception):
    """The table cannot be made from what there is: what was expected, and what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeTable:
    accounts: int
    next_offset: int
    digest: str


def rebuild_table(settings: Settings, partition: int, directory: Path | None) -> MadeTable:
    """Replace one partition's changelog. Workers are fenced. Raises TableRefusedError before anything is written."""
    core = load_core(settings)
    producer = fence(settings, partition)
    with closing(Log(settings.kafka)) as log:
        begun = _beginning(log, settings, core, partition, directory)
        ends = 1 + max(log.last_cause(topic, partition, before=_EVERYTHING) for topic in BATCH_OUTPUTS)
        ends = max(ends, begun.cursor.next_offset)  # Only ticks since, which said nothing.
        made = _folded(log, settings, core, begun, ends)
        stale = {
            message.key() or b"" for message in log.messages(changelog(settings.worker.app_id), partition)
        }
    _write(settings, producer, made, stale - made.rows.keys() - {CURSOR_KEY})
    accounts = sum(not key.startswith(RESERVED_KEYS) for key in made.rows)
    return MadeTable(
        accounts=accounts, next_offset=made.cursor.next_offset, digest=f"{made.cursor.digest:032x}"
    )


def _beginning(log: Log, settings: Settings, core: Core, partition: int, directory: Path | None) -> Snapshot:
    source = topic_name(settings.kafka, ACCOUNT_EVENTS)
    now_id = topic_id(admin(settings.kafka), source, timeout_seconds=REQUEST_SECONDS_MAX)
    file = None if directory is None else snapshot_file(directory, partition)
    if file is None or not file.exists():
        begun = Snapshot(partition=partition, cursor=initial_cursor(core, now_id), rows={})
    else:
        try:
            begun = read_snapshot(file)
        except SnapshotError as error:
            raise TableRefusedError(str(error)) from error
    expected, found = (partition, now_id), (begun.partition, begun.cursor.topic_id)
    if expected != found:
        raise TableRefusedError(
            f"expected a snapshot of partition {partition} of {source} with id {now_id}, got {found}"
        )
    low = log.start_of(ACCOUNT_EVENTS, partition)
    if low > begun.cursor.next_offset:
        raise TableRefusedError(
            f"expected {source} partition {partition} to hold offset {begun.cursor.next_offset}, from which on it must "
            f"be folded, it begins at {low}. Remedy: a younger backup (--from)"
        )
    return begun


def _folded(log: Log, settings: Settings, core: Core, begun: Snapshot, ends: int) -> Snapshot:
    """The table as it is at the input offset `ends`."""
    partition, cursor = begun.partition, begun.cursor
    published = {key: row for key, row in begun.rows.items() if key.startswith(RESERVED_KEYS)}
    accounts = {key: row for key, row in begun.rows.items() if key not in published}
    boundaries = Boundaries((key, next_boundary_ms(row)) for key, row in accounts.items())
    identities = _identities(log, core, begun)
    rest = _log(log, partition, cursor.next_offset, ends)
    while records := list(islice(rest, SLICE_RECORDS)):
        view = PartitionView(
            partition=partition,
            cursor=cursor,
            published=published,
            accounts=accounts,
            identities=identities,
            due_accounts=boundaries.due,
        )
        batch = Batch(core, view)
        named = wanted(records, core)
        batch.feed(records, read_past(settings, partition, named) if named else {})
        folded = batch.finish()
        published.update(folded.published)
        accounts.update(folded.accounts)
        boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        identities.update(folded.identities)
        cursor = folded.cursor
    made = Snapshot(partition=partition, cursor=cursor, rows={**accounts, **published})
    assert digest_of(made.rows) == cursor.digest, "the core keeps the digest of the rows"
    return made


def _identities(log: Log, core: Core, begun: Snapshot) -> dict[bytes, bytes]:
    """What was answered before the beginning. Those of the log behind it are found again by folding."""
    horizon_ms = begun.cursor.clock_ms - core.rules.identity_ms
    return {
        key: answer
        for message in (log.messages(IDENTITIES, begun.partition) if begun.cursor.next_offset else ())
        for key, answer in unpack_identities(message.value() or b"")
        if decode_answer(answer).offset < begun.cursor.next_offset
        and identity_accepted_at_ms(answer) >= horizon_ms
    }


def _log(log: Log, partition: int, start: int, ends: int) -> Iterator[Logged]:
    """To memory a slice at a time: past records are read with another client meanwhile."""
    for message in log.messages(ACCOUNT_EVENTS, partition, start=start) if start < ends else ():
        if (message.offset() or 0) >= ends:
            return
        yield logged(message)


def _write(settings: Settings, producer: Producer, made: Snapshot, stale: Iterable[bytes]) -> None:
    """Rows first, whatever else stood there removed, the cursor last."""
    changed: list[tuple[bytes, bytes | None]] = [*made.rows.items(), *((key, None) for key in stale)]
    topic = topic_name(settings.kafka, changelog(settings.worker.app_id))
    cursor = made.cursor
    rest = iter([*changed, (CURSOR_KEY, encode_cursor(cursor))])
    while rows := list(islice(rest, ROWS_PER_TRANSACTION)):
        producer.begin_transaction()
        for key, value in rows:
            producer.produce(topic, value, key, made.partition, timestamp=max(cursor.clock_ms, 1))
        producer.commit_transaction(settings.worker.commit_timeout_seconds)
