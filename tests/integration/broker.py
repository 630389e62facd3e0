"""A broker of a test's own, that it may stop, start and put to sleep."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline.local.child import Child, Group
from pipeline.local.jars import ensure_jars
from pipeline.local.kafka_server import KafkaPorts, is_ready, kafka_program
from pipeline.local.ports import free_port
from pipeline.settings import KafkaSettings, Settings, child_environment
from tests.stack import START_SECONDS_MAX, wait_until

TRANSACTIONS: Final = "__transaction_state-*"


class Broker:
    """One Kafka broker. It keeps its ports and its data while it is stopped."""

    def __init__(self, directory: Path, lock_file: int) -> None:
        ports = KafkaPorts(broker=free_port(), controller=free_port())
        self.settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{ports.broker}")
        self._log = directory / "kafka.log"
        self._data = directory / "kafka" / "data"
        self._remembered = directory / "remembered"
        environment = child_environment(Settings(home=directory))
        self._program = kafka_program(directory / "kafka", ports, environment, jars=ensure_jars())
        self._group = Group(lock_file)
        self._child: Child | None = None

    def start(self) -> None:
        self._child = Child(self._program, self._group, self._log)
        wait_until(
            "the broker is ready",
            lambda: self._program.healthy() and is_ready(self.settings),
            START_SECONDS_MAX,
        )

    def stop(self) -> None:
        assert self._child is not None
        self._child.stop()

    def kill(self) -> None:
        assert self._child is not None
        self._child.kill()

    def sleep(self) -> None:
        """Connections stay, nobody answers."""
        self._send(signal.SIGSTOP)

    def wake(self) -> None:
        self._send(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def remember_transactions(self) -> None:
        """Keep what the coordinator of transactions has on disk, while the broker is stopped."""
        for log in self._data.glob(TRANSACTIONS):
            shutil.copytree(log, self._remembered / log.name)

    def forget_transactions(self) -> None:
        """Give the coordinator that back: what was in the logs since then gets no marker, ever. As KAFKA-20734 does."""
        for log in self._data.glob(TRANSACTIONS):
            shutil.rmtree(log)
            shutil.copytree(self._remembered / log.name, log)

    def _send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._group.close()


@contextmanager
def own_broker(directory: Path) -> Iterator[Broker]:
    """A broker that runs, and is ended with the test."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        broker = Broker(directory, lock.fileno())
        try:
            broker.start()
            yield broker
        finally:
            broker.close()
