"""Backups of both: the account table as snapshots of the changelog, and ClickHouse's rows in its native format.

ClickHouse is read over HTTP, so it needs neither a disk of the server's nor a right to use one. Of each partition the
rows of input offsets before a cut are taken, below which everything is stored, and with them the places on the topics
behind the cut: a restored ClickHouse goes on there, and the sink brings the rest. So Kafka must still hold the records
from the cut on: a backup is good for 40 days, and one of each week is enough.
"""

import gzip
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

import orjson

from pipeline.clickhouse import FILL_SETTING, Client, open_client
from pipeline.kafka import admin, topic_id, topic_name
from pipeline.reconcile.progress import progress_of
from pipeline.reconcile.topics import Log
from pipeline.repair.snapshot import snapshot_file, take_snapshot, write_snapshot
from pipeline.repair.tables import refill
from pipeline.settings import Settings
from pipeline.sink.insert import TABLES
from schemas.sink_plan import PlannedRange
from schemas.topics import ACCOUNT_EVENTS, ALERT_DELIVERIES

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
"""Written last: a directory without it is no backup."""
SETTLED: Final = "usage_daily_settled"
"""The one table that neither the sink nor a view of its rows fills: days that are older than it recomputes."""
REQUEST_SECONDS_MAX: Final = 30
COPY_BYTES: Final = 1 << 20
_SECONDS_MAX: Final = 3600
"""For one table; the reader of `deploy/clickhouse` may ask for as much."""


class BackupError(Exception):
    """A backup is not whole, or not of this deployment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where the backup of one partition ends."""

    partition: int
    before: int
    """Rows of input offsets before this one are in it."""
    places: Mapping[str, int]
    """Of each stored topic the offset of the first record that is not."""


def back_up(
    settings: Settings, directory: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Write a backup into an empty or new directory; returns its manifest. The pipeline may go on meanwhile."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BackupError(f"expected an empty directory, {directory} is not")
    partitions = range(settings.kafka.partitions)
    with closing(Log(settings.kafka)) as log:
        for partition in partitions:
            progress(f"account table, partition {partition}")
            snapshot = take_snapshot(log, settings, partition)
            if snapshot is not None:
                write_snapshot(snapshot, snapshot_file(directory, partition))
        cuts = [_cut(log, settings, partition) for partition in partitions]
    with closing(open_client(settings.clickhouse)) as client:
        tables = {}
        for table in (*TABLES.values(), SETTLED):
            progress(f"ClickHouse, {table}")
            tables[table] = _export(client, table, cuts, directory / f"{table}.native.gz")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "topic_ids": _topic_ids(settings),
        "partitions": [
            {"partition": cut.partition, "before": cut.before, "places": dict(cut.places)} for cut in cuts
        ],
        "tables": tables,
        "accounts": {
            file.name: _sha256(file)
            for partition in partitions
            if (file := snapshot_file(directory, partition)).exists()
        },
    }
    (directory / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return manifest


def restore_clickhouse(
    settings: Settings, directory: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Tables as they were at the backup's cut; the sink brings what came since. Raises BackupError before that."""
    manifest = read_manifest(directory)
    _require_ours(settings, manifest)
    ids = manifest["topic_ids"]
    places = {each["partition"]: each["places"] for each in manifest["partitions"]}

    def ranges(partition: int) -> list[PlannedRange]:
        return [
            PlannedRange(topic=topic_name(settings.kafka, topic), topic_id=ids[topic], first=place, end=place)
            for topic, place in places[partition].items()
        ]

    def load(client: Client, fill: str) -> None:
        for table, told in manifest["tables"].items():
            progress(f"{table}: {told['rows']} rows")
            _import(client, table, directory / f"{table}.native.gz", fill)

    refill(settings, load=load, ranges=ranges, progress=progress)
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """What a backup says of itself, checked file by file. Raises BackupError."""
    try:
        manifest: dict[str, Any] = orjson.loads((directory / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise BackupError(
            f"expected a finished backup with {MANIFEST} in {directory}, got {error!r}"
        ) from error
    if manifest["format"] != FORMAT:
        raise BackupError(f"expected format {FORMAT} of {directory}, got {manifest['format']!r}")
    expected = {f"{table}.native.gz": told["sha256"] for table, told in manifest["tables"].items()}
    for name, wanted in (expected | manifest["accounts"]).items():
        file = directory / name
        found = _sha256(file) if file.exists() else "no file"
        if found != wanted:
            raise BackupError(f"expected {file} with SHA-256 {wanted}, got {found}")
    return manifest


def _require_ours(settings: Settings, manifest: Mapping[str, Any]) -> None:
    """The topics must be those of the backup, and hold everything from its cut on."""
    expected, found = manifest["topic_ids"], _topic_ids(settings)
    if expected != found:
        wrong = [topic for topic in found if expected.get(topic) != found[topic]]
        raise BackupError(f"expected the topics of the backup, others are on the broker: {', '.join(wrong)}")
    with closing(Log(settings.kafka)) as log:
        for each in manifest["partitions"]:
            for topic, place in each["places"].items():
                low = log.start_of(topic, each["partition"])
                if low > place:
                    raise BackupError(
                        f"expected {topic} partition {each['partition']} to hold records from offset {place} on, where "
                        f"the backup ends, it begins at {low}: the backup is older than the retention"
                    )


def _topic_ids(settings: Settings) -> dict[str, str]:
    broker = admin(settings.kafka)
    names = {topic: topic_name(settings.kafka, topic) for topic in TABLES}
    return {
        topic: topic_id(broker, name, timeout_seconds=REQUEST_SECONDS_MAX) for topic, name in names.items()
    }


def _cut(log: Log, settings: Settings, partition: int) -> Cut:
    before = progress_of(log, settings, partition).stored_before
    first = None
    if before < log.bounds(ACCOUNT_EVENTS, partition)[1]:
        first = log.first(ACCOUNT_EVENTS, partition, before)
    caused = [topic for topic in TABLES if topic != ALERT_DELIVERIES]
    at = {} if first is None else log.offsets_at(caused, partition, first.timestamp()[1])
    places = {topic: _place(log, topic, partition, before, at.get(topic)) for topic in caused}
    # Deliveries have no cause in the log. All that Kafka has of them is stored again: the newest state counts.
    places[ALERT_DELIVERIES] = log.start_of(ALERT_DELIVERIES, partition)
    return Cut(partition=partition, before=before, places=places)


def _place(log: Log, topic: str, partition: int, before: int, start: int | None) -> int:
    """The offset of the first record whose cause is not before the cut."""
    _, end = log.bounds(topic, partition)
    if start is None:  # Nothing is younger than the cut; what comes from now on is.
        start = max(end - 1, 0)
    for message in log.messages(topic, partition, start=start):
        if orjson.loads(message.value() or b"")["offset"] >= before:
            return message.offset() or 0
    return end


def _export(client: Client, table: str, cuts: list[Cut], file: Path) -> dict[str, Any]:
    """One of each row: what stands there twice is said by reconcile, and not carried on."""
    within = " OR ".join(f"(partition = {cut.partition} AND offset < {cut.before})" for cut in cuts)
    is_whole = table in {SETTLED, TABLES[ALERT_DELIVERIES]}
    where = f"FROM {table} FINAL" + ("" if is_whole else f" WHERE {within}")
    settings = {"max_execution_time": _SECONDS_MAX}
    ((rows,),) = client.query(f"SELECT count() {where}", settings=settings).result_rows
    sql = f"SELECT * {where}"
    raw = client.raw_stream(sql, settings=settings, fmt="Native")
    with gzip.open(file, "wb", compresslevel=1) as out:
        shutil.copyfileobj(cast("IO[bytes]", raw), out, COPY_BYTES)
    return {"rows": int(rows), "sha256": _sha256(file)}


def _import(client: Client, table: str, file: Path, fill: str) -> None:
    settings = {"async_insert": 0, FILL_SETTING: fill, "max_partitions_per_insert_block": 0}
    with gzip.open(file, "rb") as rows:
        client.raw_insert(table, insert_block=cast("BinaryIO", rows), fmt="Native", settings=settings)


def _sha256(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as source:
        while chunk := source.read(COPY_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
