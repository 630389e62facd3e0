"""Sees that no transaction of an earlier owner hangs: that what was written before the fence is committed or aborted.

The fence asks the coordinator of transactions, and has its word that the last one is over. Kafka 4.3 and 4.4 give it
too early (KAFKA-20734): of a transaction whose commit was promised, a partition that has no leader just then gets no
marker, ever. Its records lie in the log unread, until the next commit under the same transactional id makes them
visible. So the batch would be metered again, and then both count.

What counts is what the cursor says: records of the log before it were metered, those at or after it were not. If
nothing that can be read says otherwise, what hangs is aborted, and its events are metered as if for the first time.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final

import orjson

from pipeline.kafka import Message, Producer
from pipeline.settings import Settings
from pipeline.state import Cursor, decode_answer, unpack_identities
from pipeline.stream.ending import RefusedError, refused
from pipeline.stream.reading import PartitionReader
from schemas.topics import BATCH_OUTPUTS, IDENTITIES, changelog

SETTLE_SECONDS: Final = 3
"""For a leader that has just begun, and does not know yet how far its replicas have come; then it hangs."""
LOOK_SECONDS: Final = 0.2
ABORT_SECONDS_MAX: Final = 30
TAIL_OFFSETS: Final = 64
"""First guess of how far the last record may stand before the end: markers of transactions have offsets too."""

SAYING: Final = (*BATCH_OUTPUTS, IDENTITIES)
"""The topics whose records say which record of the log they came of."""

_logger = logging.getLogger(__name__)


def settle(
    settings: Settings, producer: Producer, partition: int, cursor: Cursor, abandoned: threading.Event
) -> None:
    """Abort what hangs in the partition's topics. For after the fence and the load, before the first batch.

    Raises RefusedError where it may not be aborted, or does not end by it.
    """
    topics = (*SAYING, changelog(settings.worker.app_id))
    with closing(PartitionReader(settings, partition, abandoned)) as reader:
        hanging = _hanging(reader, topics)
        if not hanging:
            return
        _require_that_none_counts(settings, reader, hanging, cursor.next_offset, abandoned)
        names = ", ".join(sorted(hanging))
        _logger.warning(
            "partition %d: aborts what Kafka has forgotten of a transaction, in %s; metered again from offset %d on",
            partition,
            names,
            cursor.next_offset,
        )
        producer.begin_transaction()
        for name in hanging:
            producer.produce(reader.topic(name), key=b"aborted", value=b"", partition=partition)
        producer.flush(ABORT_SECONDS_MAX)
        producer.abort_transaction(ABORT_SECONDS_MAX)
        if _hanging(reader, tuple(hanging)):
            raise _refused(partition, f"expected an abort to end what hangs in {names}, it hangs still")


def _hanging(reader: PartitionReader, topics: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Topics with records that are neither committed nor aborted, and the offsets from and up to which they stand."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        stable, written = reader.ends(topics), reader.ends(topics, uncommitted=True)
        hanging = {name: (stable[name], end) for name, end in written.items() if stable[name] < end}
        if not hanging or time.monotonic() > until:
            return hanging
        time.sleep(LOOK_SECONDS)


def _require_that_none_counts(
    settings: Settings,
    reader: PartitionReader,
    hanging: Mapping[str, tuple[int, int]],
    next_offset: int,
    abandoned: threading.Event,
) -> None:
    """Raises RefusedError if a record that hangs was metered, or one that is committed was not, by the cursor."""
    partition = reader.partition
    for name in SAYING:
        last = _last_cause(reader, name)
        if last is not None and last >= next_offset:
            raise _refused(
                partition,
                f"expected {reader.topic(name)} to end before offset {next_offset} of the log, as the cursor says, "
                f"found a committed record of offset {last} beside a transaction that hangs",
            )
    with closing(PartitionReader(settings, partition, abandoned, uncommitted=True)) as everything:
        for name in hanging.keys() & SAYING:
            first = min(_causes(everything, name, *hanging[name]), default=next_offset)
            if first < next_offset:
                raise _refused(
                    partition,
                    f"expected what hangs in {reader.topic(name)} to be of offset {next_offset} of the log or "
                    f"later, as the cursor says, found a record of offset {first}",
                )


def _last_cause(reader: PartitionReader, name: str) -> int | None:
    """The input offset of the last committed record: of the last batch, like all that stands beside it."""
    low, high = reader.bounds(name)
    back = TAIL_OFFSETS
    while True:
        start = max(low, high - back)
        causes = list(_causes(reader, name, start, high))
        if causes or start == low:
            return causes[-1] if causes else None
        back *= 8


def _causes(reader: PartitionReader, name: str, start: int, high: int) -> Iterator[int]:
    for message in reader.read(name, start, high):
        cause = _cause(name, message)
        if cause is not None:
            yield cause


def _cause(name: str, message: Message) -> int | None:
    """The input offset that a record came of; None of one that says none."""
    value = message.value()
    if not value:
        return None
    if name == IDENTITIES:
        return max(decode_answer(answer).offset for _key, answer in unpack_identities(value))
    return int(orjson.loads(value)["offset"])


def _refused(partition: int, what: str) -> RefusedError:
    return refused(
        partition,
        f"a transaction hangs. {what[0].upper()}{what[1:]}",
        "end it with Kafka's own kafka-transactions.sh (find-hanging, then abort), then make the table anew from the "
        "log: creditstream rebuild table",
    )
