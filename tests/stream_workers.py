"""Real workers as child processes, the events they read, and everything they said, for tests of the stream."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.kafka import (
    Consumer,
    KafkaError,
    Producer,
    TopicPartition,
    consumer,
    drain,
    producer,
    topic_name,
)
from pipeline.settings import STATE_FILE, KafkaSettings, Settings, WorkerSettings, child_environment
from pipeline.state import RESERVED_KEYS
from schemas.topics import ACCOUNT_EVENTS, COMMAND_RESULTS, DEAD_LETTERS, METERED_RECORDS, changelog
from tests import builders
from tests.stack import wait_until

RUN: Final = """
from pipeline.settings import Settings
from pipeline.stream.worker import run_worker
run_worker(Settings())
"""
END_SECONDS_MAX: Final = 15
QUICK: Final[dict[str, Any]] = {"session_timeout_ms": 3000, "heartbeat_interval_ms": 200}
"""Of tests' workers: who is killed is missed so soon, and who comes or goes is noticed at once."""


def streaming(kafka: KafkaSettings, home: Path, *, partitions: int = 2, **groups: Any) -> Settings:
    """A deployment of its own on the session's broker, without ClickHouse: topics, workers that notice soon, and
    commands signed as by `builders`. `groups` are further fields of the settings."""
    own = {"topic_prefix": f"s{uuid4().hex[:10]}.", "partitions": partitions}
    chosen: dict[str, Any] = {
        "worker": WorkerSettings(**QUICK),
        "command_key_id": builders.KEY_ID,
        "command_keys": {builders.KEY_ID: SecretStr(builders.SECRET.hex())},
        **groups,
    }
    settings = Settings(home=home, kafka=kafka.model_copy(update=own), **chosen)
    ensure_topics(settings)
    return settings


def write_settings(settings: Settings) -> None:
    """Where a child process reads them: the state directory."""
    values = settings.model_dump(mode="json", exclude={"home", "clickhouse", "sink", "notifier"})
    values["command_keys"] = {key: each.get_secret_value() for key, each in settings.command_keys.items()}
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / STATE_FILE).write_bytes(orjson.dumps(values))


class Worker:
    """One worker process and its log."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.log_path = settings.home / f"{name}.log"
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN], stderr=log, stdout=log, env=child_environment(settings)
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def held(self) -> set[int]:
        """The partitions it said last that it holds."""
        said = re.findall(r"holds partitions \[(.*?)\]", self.log)
        return {int(each) for each in said[-1].split(",") if each.strip()} if said else set()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_end(self, seconds: float = END_SECONDS_MAX) -> int:
        return self.process.wait(seconds)


@contextmanager
def workers(settings: Settings, *names: str) -> Iterator[list[Worker]]:
    """Workers that are ended with the test, whatever state they are in."""
    write_settings(settings)
    running = [Worker(settings, name) for name in names]
    try:
        yield running
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()


@contextmanager
def program(settings: Settings, kind: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another of the pipeline's programs that is ended with the test. Its settings were written before."""
    with (settings.home / f"{kind}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", kind], stderr=log, env=child_environment(settings)
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until_held(settings: Settings, *holders: Worker, seconds_max: float = 30) -> None:
    """Wait until these workers hold all partitions, each at least one."""
    everything = set(range(settings.kafka.partitions))

    def shared_out() -> bool:
        for each in holders:
            assert each.process.poll() is None, each.log
        return all(each.held() for each in holders) and _partition_sets(holders) == sorted(everything)

    wait_until("the workers hold all partitions", shared_out, seconds_max)


def _partition_sets(holders: Iterable[Worker]) -> list[int]:
    return sorted(partition for each in holders for partition in each.held())


class Feed:
    """Appends events to the input log, partitioned as every producer must."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._topic = topic_name(kafka, ACCOUNT_EVENTS)
        self._producer: Producer = producer(kafka)
        self.sent = 0

    def send(self, *events: Mapping[str, Any]) -> None:
        for event in events:
            self._producer.produce(self._topic, orjson.dumps(event), str(event["subject"]).encode())
            self.sent += 1
            self._producer.poll(0)

    def send_bytes(self, value: bytes, key: bytes = b"acct") -> None:
        self._producer.produce(self._topic, value, key)
        self.sent += 1

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


class Said(NamedTuple):
    """One outcome record on an output topic."""

    topic: str
    partition: int
    offset: int
    body: dict[str, Any]


class Outcomes:
    """Follows the topics on which every input record has exactly one record, read-committed."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.said: list[Said] = []
        self._kafka = kafka
        names = [topic_name(kafka, each) for each in (METERED_RECORDS, COMMAND_RESULTS, DEAD_LETTERS)]
        options: dict[str, Any] = {"fetch.wait.max.ms": 20, "enable.partition.eof": True}
        self._consumer: Consumer = consumer(kafka, **options)
        self._places = [TopicPartition(name, place, 0) for name in names for place in range(kafka.partitions)]
        self._read_to = {(each.topic, each.partition): 0 for each in self._places}
        self._consumer.assign(self._places)

    def wait_for(self, count: int, seconds_max: float = 40) -> list[Said]:
        """Wait until there are so many outcomes; what came beyond them is there too."""
        until = time.monotonic() + seconds_max
        while len(self.said) < count:
            assert time.monotonic() < until, f"expected {count} outcomes, got {len(self.said)}"
            self._take()
        return self.said

    def settle(self, seconds_max: float = 40) -> list[Said]:
        """Read to the end that the topics have now."""
        ends = {
            (each.topic, each.partition): self._consumer.get_watermark_offsets(each, timeout=10)[1]
            for each in self._places
        }
        until = time.monotonic() + seconds_max
        while behind := {place: end for place, end in ends.items() if self._read_to[place] < end}:
            assert time.monotonic() < until, f"expected to read to {behind}, got to {self._read_to}"
            self._take()
        return self.said

    def _take(self) -> None:
        """What is there; a tenth of a second is waited for the first record only."""
        for message in drain(self._consumer, 5000, 0.1):
            place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                self._read_to[place] = offset
                continue
            self._read_to[place] = offset + 1
            body = orjson.loads(message.value() or b"")
            topic = place[0].removeprefix(self._kafka.topic_prefix)
            self.said.append(Said(topic, body["partition"], body["offset"], body))


def assert_each_offset_once(said: list[Said], sent: int) -> None:
    """Every input record has one outcome, no more, no less."""
    counted = Counter((each.partition, each.offset) for each in said)
    doubled = [place for place, count in counted.items() if count > 1]
    assert not doubled, f"outcomes said twice: {doubled[:10]}"
    assert len(counted) == sent, f"expected outcomes for {sent} input records, got {len(counted)}"


def read_table(settings: Settings) -> dict[bytes, bytes]:
    """The changelog's newest rows by key, without cursors and published content; tombstones do not occur."""
    topic = topic_name(settings.kafka, changelog(settings.worker.app_id))
    rows: dict[bytes, bytes] = {}
    options: dict[str, Any] = {"enable.partition.eof": True}
    reader = consumer(settings.kafka, **options)
    places = [TopicPartition(topic, partition, 0) for partition in range(settings.kafka.partitions)]
    reader.assign(places)
    ended: set[int] = set()
    while len(ended) < len(places):
        for message in drain(reader, 5000, 0.2):
            if message.error() is not None:
                ended.add(message.partition() or 0)
            elif not (message.key() or b"").startswith(RESERVED_KEYS):
                rows[message.key() or b""] = message.value() or b""
    reader.close()
    return rows
