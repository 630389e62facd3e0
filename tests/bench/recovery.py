"""How soon a worker meters again, in how much memory, and on how much disk.

    python -m tests.bench.recovery --accounts 1000000 --identities 20000000

Fills the changelog and the identities of a fresh broker as a worker would have left them. Then a worker is started and
killed with kill -9, three times: with an empty disk and nobody in the group before it; with the files that the first
kept; with an empty disk again, where the group waits for the session of the killed member. Measured from the start of
the process to the first outcome of an event that waits, and stage by stage from the worker's log.
"""

import argparse
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.bootstrap import load_core
from pipeline.domain.instants import HOUR_MS
from pipeline.domain.reasons import METERED_CODE
from pipeline.domain.usage import Fingerprint
from pipeline.kafka import Producer, admin, producer, topic_id, topic_name
from pipeline.metering import initial_cursor
from pipeline.settings import KafkaSettings, Settings, WorkerSettings
from pipeline.state import CURSOR_KEY, DIGEST_MODULUS, encode_answer, encode_cursor, row_digest
from schemas.topics import ACCOUNT_EVENTS, IDENTITIES, changelog
from tests import builders
from tests.bench.run import broker
from tests.builders import Partition, issue_grant, open_account, usage
from tests.stack import wait_until
from tests.stream_workers import Feed, Outcomes, workers

PARTITIONS: Final = 4
HOURS: Final = 24
"""Over which the identities are spread."""
IDENTITIES_A_RECORD: Final = 5000
SECONDS_MAX: Final = 300
NOW_MS: Final = int(time.time() * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--identities", type=int, default=2_000_000)
    parser.add_argument(
        "--versions", type=int, default=2, help="of each row: what compaction has not yet removed"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="creditstream-recovery-") as name, broker(Path(name)) as servers:
        settings = deployment(Path(name), servers)
        began = time.monotonic()
        rows = sum(fill(settings, partition, chosen) for partition in range(PARTITIONS))
        say(f"filled {rows:,} rows and {chosen.identities:,} identities in {time.monotonic() - began:.0f} s")
        say(HEAD)
        say(recover(settings, "empty disk, empty group"))
        say(f"files kept: {kept(settings, chosen)}")
        say(recover(settings, "files, after kill -9"))
        for kind in ("accounts", "identities", "workers"):
            shutil.rmtree(settings.home / kind)
        say(recover(settings, "empty disk, after kill -9"))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def deployment(home: Path, servers: str) -> Settings:
    settings = Settings(
        home=home,
        kafka=KafkaSettings(bootstrap_servers=servers, partitions=PARTITIONS),
        worker=WorkerSettings(identity_bytes_max=16_000_000_000),
        command_keys={builders.KEY_ID: SecretStr(builders.SECRET.hex())},
    )
    ensure_topics(settings)
    return settings


def fill(settings: Settings, partition: int, chosen: argparse.Namespace) -> int:
    """What a worker would have left in one partition. Returns how many rows were written."""
    options: dict[str, Any] = {"linger.ms": 50}
    writer = producer(settings.kafka, **options)
    log = topic_name(settings.kafka, changelog(settings.worker.app_id))
    digest = 0
    for version in range(chosen.versions):
        for key, row in rows_of(partition, chosen.accounts // PARTITIONS):
            put(writer, log, key, row, partition)
            if version == 0:
                digest += row_digest(key, row)
    topic = topic_name(settings.kafka, IDENTITIES)
    for hour in reversed(range(HOURS)):
        at = NOW_MS - hour * HOUR_MS
        for packed in identities_of(chosen.identities // PARTITIONS // HOURS, at):
            put(writer, topic, None, packed, partition, at)
    source = topic_name(settings.kafka, ACCOUNT_EVENTS)
    first = initial_cursor(load_core(settings), topic_id(admin(settings.kafka), source, timeout_seconds=10))
    cursor = replace(first, clock_ms=NOW_MS, digest=digest % DIGEST_MODULUS)
    put(writer, log, CURSOR_KEY, encode_cursor(cursor), partition)
    assert writer.flush(SECONDS_MAX) == 0
    return int(chosen.versions * (chosen.accounts // PARTITIONS))


def rows_of(partition: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows of accounts that were used: a monthly grant, a pack, some entries."""
    world = Partition()
    world.fold(open_account("starter", at=NOW_MS), issue_grant("100", at=NOW_MS), usage(at=NOW_MS), at=NOW_MS)
    row = world.accounts[b"acct"]
    place = row.index(b'"hash":"') + len(b'"hash":"')
    for number in range(count):
        # Each its own hash, as in life: else the broker's batches shrink to nothing.
        yield (
            b"p%d-a%07d" % (partition, number),
            row[:place]
            + b"%032x" % (number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
            + row[place + 32 :],
        )


def identities_of(count: int, at: int) -> Iterator[bytes]:
    answer = encode_answer(Fingerprint(bytes(8)), METERED_CODE, builders.micros("1"), 7, at)
    for start in range(0, count, IDENTITIES_A_RECORD):
        keys = secrets.token_bytes(16 * min(IDENTITIES_A_RECORD, count - start))
        yield b"".join(keys[place : place + 16] + answer for place in range(0, len(keys), 16))


def put(
    writer: Producer, topic: str, key: bytes | None, value: bytes, partition: int, at: int = NOW_MS
) -> None:
    while True:
        try:
            writer.produce(topic, value, key, partition, timestamp=at)
        except BufferError:
            writer.poll(0.1)
        else:
            writer.poll(0)
            return


def recover(settings: Settings, name: str) -> str:
    """Start the worker with events waiting in every partition; how long until they are answered, as a table's row."""
    feed, mark = Feed(settings.kafka), name.encode().hex()[:40]
    feed.send(
        *[open_account(account=f"{mark}{each}", at=NOW_MS, command_id=f"{mark}{each}") for each in range(64)]
    )
    feed.flush()
    outcomes = Outcomes(settings.kafka)
    before = len(outcomes.settle())
    began, began_at = time.monotonic(), time.time()
    with workers(settings, "worker") as [worker]:
        outcomes.wait_for(before + 1, SECONDS_MAX)
        first = time.monotonic() - began
        outcomes.wait_for(before + 64, SECONDS_MAX)
        every = time.monotonic() - began
        memory = psutil.Process(worker.process.pid).memory_full_info()
        stages = stages_of(worker.log, began_at)
        if not list(settings.home.glob("accounts/*/*/*.whole")):
            wait_until("rows are in one file", lambda: are_compacted(settings, feed), SECONDS_MAX)
    return (
        f"{name:26} {stages} {first - float(stages.split()[-1]):8.1f} {first:8.1f} {every:8.1f}"
        f" {memory.rss / 1e9:8.1f} {memory.uss / 1e9:8.1f}"
    )


HEAD: Final = (
    f"{'seconds (memory: GB)':26} {'to join':>8} {'joined':>8} {'held at':>8} {'answer':>8} "
    f"{'first':>8} {'all':>8} {'rss':>8} {'own':>8}"
)
"""Imports and checks; the group's answer; when all is fenced and loaded; from there to the first outcome."""


def stages_of(log: str, began_at: float) -> str:
    """How long until the worker joins its group, how long the group takes, and when everything is held."""
    joins, takes_over, holds = (
        logged_at(re.findall(rf"^(\S+ \S+) INFO \S+ {words}", log, re.MULTILINE)[-1]) - began_at
        for words in ("joins the group", "takes over partitions", "holds partitions")
    )
    return f"{joins:8.1f} {takes_over - joins:8.1f} {holds:8.1f}"


def logged_at(text: str) -> float:
    seconds, millis = text.split(",")
    return time.mktime(time.strptime(seconds, "%Y-%m-%d %H:%M:%S")) + int(millis) / 1000


def are_compacted(settings: Settings, feed: Feed) -> bool:
    """Asked while something goes on in every partition, as a scheduler's ticks do in life: files are brought up to date
    after a batch, and one partition's at a time."""
    feed.send(*[open_account(account=secrets.token_hex(8), at=NOW_MS) for _ in range(4 * PARTITIONS)])
    feed.flush()
    return len(list(settings.home.glob("accounts/*/*/*.whole"))) == PARTITIONS


def kept(settings: Settings, chosen: argparse.Namespace) -> str:
    """Bytes on disk, and for each account and identity."""
    accounts, identities = (
        sum(path.stat().st_size for path in (settings.home / name).rglob("*") if path.is_file())
        for name in ("accounts", "identities")
    )
    return (
        f"{accounts / chosen.accounts:.0f} bytes an account, {identities / chosen.identities:.0f} an identity, "
        f"{(accounts + identities) / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
