"""A broker whose disk has just failed says that its partitions begin nowhere, and calls that no error until it ends."""

import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import pytest

from pipeline.chaos.starving import full_disk
from pipeline.kafka import (
    KafkaException,
    NewTopic,
    Producer,
    TopicPartition,
    admin,
    consumer,
    list_offsets,
    producer,
    watermarks,
)
from tests.integration.broker import own_broker
from tests.stack import wait_until

pytestmark = pytest.mark.integration
TOPIC: Final = "log"
PARTITIONS: Final = 4
STARVED_SECONDS: Final = 3
ASK_SECONDS_MAX: Final = 1


def test_a_partition_with_records_never_seems_empty(tmp_path: Path) -> None:
    """Whoever loads a table would take it for a new one, and meter everything again."""
    with own_broker(tmp_path) as broker:
        client = admin(broker.settings, log_level="0")
        client.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result()
        places = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        writer = producer(broker.settings, log_level="0")
        _append(writer, 1000)
        assert writer.flush(ASK_SECONDS_MAX) == 0
        begins: list[int] = []
        ended = threading.Event()

        def ask(place: TopicPartition) -> None:
            with closing(consumer(broker.settings, log_level="0")) as reader:
                while not ended.is_set():
                    with suppress(KafkaException):
                        begins.append(watermarks(reader, client, place, timeout_seconds=ASK_SECONDS_MAX)[0])

        def ask_all() -> None:
            while not ended.is_set():
                with suppress(KafkaException):
                    begins.extend(
                        list_offsets(client, places, "earliest", timeout_seconds=ASK_SECONDS_MAX).values()
                    )

        asking = [threading.Thread(target=ask, args=(each,)) for each in places]
        asking.append(threading.Thread(target=ask_all))
        for each in asking:
            each.start()
        wait_until("all are asked about", lambda: len(begins) > 10 * PARTITIONS, 20)
        with full_disk(broker.pid):
            until = time.monotonic() + STARVED_SECONDS
            while time.monotonic() < until:
                _append(writer, 1)
        ended.set()
        for each in asking:
            each.join()

    assert set(begins) == {0}


def _append(writer: Producer, records: int) -> None:
    """A broker that refuses, or has ended, is no matter."""
    with suppress(BufferError):
        for _ in range(records):
            writer.produce(TOPIC, bytes(500), b"key")
    writer.poll(0.001)
