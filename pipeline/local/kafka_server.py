"""One Apache Kafka broker (KRaft: broker and controller in one) on loopback, as a child process.

Owns its settings and its data directory, which is formatted once. The quorum is static, so a restart may use
other ports. Ready means: metadata, the coordinators of groups and of transactions, all answer.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pipeline import kafka
from pipeline.local import LocalStackError
from pipeline.local.child import Program
from pipeline.local.java import Java, find_java
from pipeline.local.ports import LOOPBACK, listens
from pipeline.settings import KafkaSettings

HEAP_MEGABYTES: Final = 512
FORMAT_TIMEOUT_SECONDS: Final = 120
PROBE_TIMEOUT_SECONDS: Final = 2
CLUSTER_ID: Final = "Y3JlZGl0c3RyZWFtLWxvYw"
"""Sixteen bytes in base64, as `StorageTool random-uuid` makes them; one broker needs no other."""

BROKER_PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # A typing error in a topic name must be an error, not a topic.
    "auto.create.topics.enable": "false",
    # Internal topics: one broker, and few partitions, because each costs time at every start.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # A dead worker's open transaction holds up readers: look for them every second, not every ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Group members start together here; waiting for more of them only delays the first event.
    "group.initial.rebalance.delay.ms": "0",
    # A quarter of the default 128 MB, which would be a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": "33554432",
    "num.network.threads": "2",
    "num.io.threads": "4",
}

_JVM_OPTIONS: Final = (
    "-Xms128m",
    f"-Xmx{HEAP_MEGABYTES}m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # The second compiler costs a two-core machine more than it brings here.
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaPorts:
    broker: int
    controller: int


class FormatError(LocalStackError):
    """Kafka's StorageTool refused: carries what it said."""


def kafka_program(
    directory: Path,
    ports: KafkaPorts,
    environment: Mapping[str, str],
    *,
    jars: Path,
    properties: Mapping[str, str] = MappingProxyType({}),
    format_options: Sequence[str] = (),
) -> Program:
    """Formats the data directory where needed, and says how to run the broker; `properties` go before ours."""
    java = find_java()
    run = (str(java.path), *_jvm_options(java), "-cp", f"{jars}/*")
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "server.properties"
    file.write_text(_properties(directory, ports, properties))
    _format_once(directory, run, file, format_options)
    return Program(
        name="kafka",
        stage=0,
        command=(*run, "kafka.Kafka", str(file)),
        environment=environment,
        directory=directory,
        healthy=lambda: listens(ports.broker),
        ports={"kafka": ports.broker, "controller": ports.controller},
        stop_seconds_max=20,
    )


def is_ready(settings: KafkaSettings) -> bool:
    """Whether a transactional producer and a consumer group could start now."""
    quietly = {"log_level": "0"}
    try:
        group = kafka.consumer(settings, group_id="readiness", **quietly)
        group.committed([kafka.TopicPartition("readiness", 0)], timeout=PROBE_TIMEOUT_SECONDS)
        group.close()
        producer = kafka.producer(settings, transactional_id="readiness", **quietly)
        producer.init_transactions(PROBE_TIMEOUT_SECONDS)
    except kafka.KafkaException:
        return False
    return True


def _jvm_options(java: Java) -> tuple[str, ...]:
    if java.release < 24:
        return _JVM_OPTIONS
    # Kafka's native libraries and scala's Unsafe: without these, pages of warnings.
    return (*_JVM_OPTIONS, "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


def _properties(directory: Path, ports: KafkaPorts, properties: Mapping[str, str]) -> str:
    broker, controller = f"{LOOPBACK}:{ports.broker}", f"{LOOPBACK}:{ports.controller}"
    placed = {
        "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{broker}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(directory / "data"),
    }
    return "".join(
        f"{name}={value}\n" for name, value in {**BROKER_PROPERTIES, **placed, **properties}.items()
    )


def _format_once(directory: Path, run: tuple[str, ...], properties: Path, options: Sequence[str]) -> None:
    formatted = directory / "formatted"
    if formatted.exists():
        return
    told = subprocess.run(  # noqa: S603
        [
            *(*run, "kafka.tools.StorageTool", "format", "--ignore-formatted"),
            *("--cluster-id", CLUSTER_ID, "--config", str(properties), *options),
        ],
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_SECONDS,
        check=False,
    )
    if told.returncode != 0:
        raise FormatError(
            f"expected StorageTool to format {directory}, got exit {told.returncode}: {told.stderr}"
        )
    formatted.touch()
