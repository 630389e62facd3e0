"""Loads the table of one partition, and verifies it: rows, published content, the cursor.

Local files first, then what the changelog has beyond them. The files are used only if everything fits: the position
lies in the changelog, and the sum of all rows' digests is what the last cursor says. Otherwise all of it comes from
Kafka, and if that does not fit either, the worker refuses.
"""

from dataclasses import dataclass

from pipeline.metering import Core, initial_cursor
from pipeline.settings import Settings
from pipeline.state import (
    CURSOR_KEY,
    DIGEST_MODULUS,
    RESERVED_KEYS,
    Cursor,
    decode_cursor,
    row_digest,
)
from pipeline.stream.compactor import Compactor
from pipeline.stream.ending import RefusedError, refused
from pipeline.stream.local_rows import Found, LocalRows
from pipeline.stream.reading import PartitionReader
from pipeline.stream.rows import Rows
from pipeline.stream.whole_rows import Origin, UnusableError, WholeRows
from schemas.topics import ACCOUNT_EVENTS, changelog


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows of one partition, verified."""

    rows: Rows
    line: WholeRows | None
    """The file in which the accounts lie that are not in `rows.changed`."""
    published: dict[bytes, bytes]
    cursor: Cursor
    read: int
    """Records of the changelog that had to be read."""
    local: LocalRows
    """The files, ready for what is committed next."""


class TableLoader:
    """For one partition, once."""

    def __init__(self, settings: Settings, core: Core, reader: PartitionReader, compactor: Compactor) -> None:
        self._core = core
        self._reader = reader
        self._log = changelog(settings.worker.app_id)
        topic = reader.topic(self._log)
        origin = Origin(
            topic=topic,
            topic_id=reader.topic_id(self._log),
            partition=reader.partition,
            partitions=settings.kafka.partitions,
        )
        self._local = LocalRows(
            settings.home / "accounts" / topic / str(reader.partition),
            origin,
            log_bytes_min=settings.worker.rows_log_bytes_min,
            compactor=compactor,
        )

    def load(self) -> Table:
        """Raises RefusedError when the changelog is not what can be gone on from."""
        found = self._local.load()
        if found.position > 0:
            try:
                return self._complete(found)
            except (UnusableError, RefusedError) as error:
                self._local.discard(str(error))
        return self._complete(Found())

    def _complete(self, found: Found) -> Table:
        """What was found, and what comes after it in the changelog."""
        low, high = self._reader.bounds(self._log)
        if found.position > 0 and not low <= found.position <= high:
            raise UnusableError(f"it goes up to offset {found.position} of a log that has {low} to {high}")
        news, read = self._news(found.position, low, high)
        reserved = {} if found.whole is None else dict(found.whole.reserved)
        changed = found.changed
        changed.update(news)
        reserved.update({key: changed.pop(key) for key in list(changed) if key.startswith(RESERVED_KEYS)})
        cursor_value = reserved.pop(CURSOR_KEY, None)
        table = Table(
            rows=Rows(changed, found.whole or {}),
            line=found.whole,
            published=reserved,
            cursor=self._cursor(cursor_value, len(changed) + len(reserved)),
            read=read,
            local=self._local,
        )
        self._verify_digest(table)
        self._local.go_on_from(found.position, news, high)
        return table

    def _news(self, position: int, low: int, high: int) -> tuple[dict[bytes, bytes], int]:
        """The newest rows of the changelog from a position on, and how many records they were."""
        rows: dict[bytes, bytes] = {}
        read = 0
        for message in self._reader.read(self._log, max(low, position), high):
            read += 1
            key, value = message.key(), message.value()
            assert key is not None, (message.topic(), message.partition(), message.offset())
            if value is not None:
                rows[key] = value
            elif position == 0:
                rows.pop(key, None)
            else:
                raise UnusableError(f"the changelog removes the row of {key!r} after it")
        return rows, read

    def _cursor(self, value: bytes | None, rows: int) -> Cursor:
        """What the cursor says; a partition that nobody has worked on gets its first."""
        source = self._reader.topic(ACCOUNT_EVENTS)
        now_id = self._reader.topic_id(ACCOUNT_EVENTS)
        if value is None:
            if rows:
                raise self._refused(
                    f"expected a cursor beside {rows} rows in the changelog, found none",
                    "the changelog was cut or written by another hand; rebuild it from the input topic",
                )
            return initial_cursor(self._core, now_id)
        cursor = self._readable(value)
        if cursor.topic_id != now_id:
            raise self._refused(
                f"expected {source} to be the topic with id {cursor.topic_id}, found {now_id}: it was recreated",
                "its offsets mean other events now. Restore the old topic, or recreate every topic of this "
                "deployment, or begin a new one under another CREDITSTREAM_KAFKA__TOPIC_PREFIX",
            )
        return cursor

    def _readable(self, value: bytes) -> Cursor:
        try:
            return decode_cursor(value)
        except ValueError as error:
            raise self._refused(str(error), "run the release that wrote it, or a newer one") from error

    def _verify_digest(self, table: Table) -> None:
        changed = table.rows.changed
        digest = 0 if table.line is None else table.line.digest(without=changed)
        digest += sum(row_digest(key, row) for key, row in changed.items())
        digest += sum(row_digest(key, row) for key, row in table.published.items())
        digest %= DIGEST_MODULUS
        if digest != table.cursor.digest:
            raise self._refused(
                f"expected account rows with digest {table.cursor.digest:032x}, loaded {len(table.rows)} rows "
                f"with {digest:032x}",
                "a row is missing, altered or foreign. Nothing was charged on it; rebuild the changelog from the "
                "input topic",
            )

    def _refused(self, what: str, remedy: str) -> RefusedError:
        return refused(self._reader.partition, what, remedy)
