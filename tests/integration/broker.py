"""A broker of a test's own, that it may stop, start and put to sleep."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.local.child import Child, Group
from pipeline.local.jars import ensure_jars
from pipeline.local.kafka_server import KafkaPorts, is_ready, kafka_program
from pipeline.local.ports import free_port
from pipeline.settings import KafkaSettings, Settings, child_environment
from tests.stack import START_SECONDS_MAX, wait_until


class Broker:
    """One Kafka broker. It keeps its ports and its data while it is stopped."""

    def __init__(self, directory: Path, lock_file: int) -> None:
        ports = KafkaPorts(broker=free_port(), controller=free_port())
        self.settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{ports.broker}")
        self._log = directory / "kafka.log"
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

    def _send(self, number: signal.Signals) -> None:
        assert self._child is not None
        os.kill(self._child.pid, number)

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
