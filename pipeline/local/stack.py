"""A whole deployment in one directory: Kafka and ClickHouse, topics and tables, workers, sinks and a scheduler.

`LocalStack` is a context manager: inside it everything runs and is kept running, outside it nothing does.
"""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from pipeline.local import LocalStackError
from pipeline.local.child import Child, Group, Program
from pipeline.local.clickhouse_config import ClickHousePorts, ClickHouseUsers
from pipeline.local.clickhouse_server import clickhouse_program
from pipeline.local.gateway_server import is_alive
from pipeline.local.home import ChildState, Home, StackState
from pipeline.local.jars import ensure_jars
from pipeline.local.kafka_server import KafkaPorts, is_ready, kafka_program
from pipeline.local.ports import LOOPBACK, free_port, require_free
from pipeline.local.supervisor import Supervisor
from pipeline.settings import Settings, child_environment

DISK_BYTES_MIN: Final = 1_000_000_000
"""Free before a start: a full disk damages the broker's log."""
SPARE: Final = "spare"
"""In place of the number of a program that is added for a while."""
PIPELINE_COMMAND: Final = (sys.executable, "-m", "pipeline")


class StackError(LocalStackError):
    """The stack cannot start: what was expected, what came, and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What a person chooses. A port of None is any free one."""

    workers: int = 1
    sinks: int = 1
    schedulers: int = 1
    gateways: int = 1
    """0 or 1: it has one port."""
    late_lanes: int = 1
    payments: int = 1
    reconcilers: int = 1
    notifiers: int = 1
    kafka_port: int | None = 9092
    clickhouse_port: int | None = 8123
    native_port: int | None = 9000
    gateway_port: int | None = 8000
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Merged into `settings.json`: topic prefix, batch sizes, …"""
    command: tuple[str, ...] = PIPELINE_COMMAND
    """`worker`, `sink`, `scheduler` or `late-lane` is appended."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of workers, sinks, schedulers and late lanes, beside what all children have."""
    before_pipeline: Callable[[Settings], None] = lambda _: None
    """Called when Kafka and ClickHouse are up and nothing has read or written a record yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    kafka: KafkaPorts
    clickhouse: ClickHousePorts
    gateway: int


class LocalStack:
    """The running stack: its settings, its children by name (`kafka`, `clickhouse`, `worker-1`, `sink-1`, …)."""

    def __init__(
        self,
        home: Path,
        options: StackOptions | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = Home(home)
        self.options = options or StackOptions()
        self.settings = Settings(home=self.home.directory)
        self._say = say
        self._lock: IO[str] | None = None
        self._group: Group | None = None
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def child(self, name: str) -> Child:
        """The process that has this name now; another one after a restart."""
        return self._running.child(name)

    def keep_down(self, name: str) -> None:
        """From now on this child is not started again when it ends."""
        self._running.keep_down(name)

    def keep_up(self, name: str) -> None:
        """Ends `keep_down`."""
        self._running.keep_up(name)

    def add(self, kind: str) -> str:
        """Start one more program of this kind than was chosen, for a while; its name, for `keep_down` and its end."""
        name = f"{kind}-{SPARE}"
        stage = self._running.child(f"{kind}-1").program.stage
        self._running.start(self._pipeline_program(kind, SPARE, stage=stage))
        return name

    def states(self) -> tuple[ChildState, ...]:
        return self._running.states()

    def is_kept(self) -> bool:
        """Whether the children are still watched over."""
        return self._running.is_watching()

    def close(self) -> None:
        """Stops what runs: schedulers and sinks, workers, ClickHouse, Kafka; then lets the directory go."""
        if self._supervisor is not None:
            self._supervisor.close()
        if self._group is not None:
            self._group.close()
        if self._lock is not None:
            self.home.forget_state()
            self._lock.close()
        self._supervisor = self._group = self._lock = None

    @property
    def _running(self) -> Supervisor:
        assert self._supervisor is not None, "expected a stack that was entered"
        return self._supervisor

    def _start(self) -> None:
        self._lock = self.home.lock()
        _require_disk(self.home.directory)
        ports = _chosen_ports(self.options)
        jars = ensure_jars()  # Here and not in a thread, so that Ctrl-C ends a long download.
        self._write_settings(ports)
        self._group = Group(self._lock.fileno())
        self._supervisor = Supervisor(self._group, self.home.logs, self._tell)
        self._side_by_side(
            lambda: self._start_clickhouse(ports.clickhouse), lambda: self._start_kafka(ports.kafka, jars)
        )
        self.options.before_pipeline(self.settings)
        self._start_pipeline()

    def _write_settings(self, ports: _Ports) -> None:
        self.home.make_secrets()
        broker = f"{LOOPBACK}:{ports.kafka.broker}"
        url = f"http://{LOOPBACK}:{ports.clickhouse.http}"
        placed = {
            "kafka": {"bootstrap_servers": broker},
            "clickhouse": {"url": url, "native_port": ports.clickhouse.native},
            "gateway": {"port": ports.gateway},
            "notifier": {"public_url": f"http://{LOOPBACK}:{ports.gateway}"},
        }
        self.home.write_settings(self.options.settings, placed)
        self.settings = Settings(home=self.home.directory)
        for name, expected, found in (
            ("KAFKA__BOOTSTRAP_SERVERS", broker, self.settings.kafka.bootstrap_servers),
            ("CLICKHOUSE__URL", url, self.settings.clickhouse.url),
        ):
            if expected != found:
                raise StackError(
                    f"expected the programs to use the local {expected}, the environment says {found}. "
                    f"Remedy: unset CREDITSTREAM_{name}; `up` is for a local stack only."
                )

    def _tell(self, children: tuple[ChildState, ...]) -> None:
        self.home.write_state(StackState(children=children))

    def _side_by_side(self, *starts: Callable[[], None]) -> None:
        with ThreadPoolExecutor(len(starts)) as pool:
            try:
                for started in as_completed([pool.submit(start) for start in starts]):
                    started.result()
            except BaseException:
                self._running.give_up()  # The other one need not come up any more.
                raise

    def _start_clickhouse(self, ports: ClickHousePorts) -> None:
        began = time.monotonic()
        clickhouse = self.settings.clickhouse
        users = ClickHouseUsers(
            owner=clickhouse.user,
            owner_password=clickhouse.password,
            analyst=clickhouse.analyst_user,
            analyst_password=clickhouse.analyst_password,
            analyst_databases=[clickhouse.database],
        )
        program = clickhouse_program(
            self.home.directory / "clickhouse", ports, users, child_environment(self.settings)
        )
        self._running.start(program)
        self._running.wait_until(program.name, program.healthy)
        self._done(f"ClickHouse {clickhouse.url}, native port {ports.native}", began)
        from pipeline.admin.migrate import migrate  # noqa: PLC0415  (its client takes half a second to import)

        migrate(self.settings)

    def _start_kafka(self, ports: KafkaPorts, jars: Path) -> None:
        began = time.monotonic()
        program = kafka_program(
            self.home.directory / "kafka", ports, child_environment(self.settings), jars=jars
        )
        self._running.start(program)
        self._running.wait_until(program.name, lambda: program.healthy() and is_ready(self.settings.kafka))
        self._done(f"Kafka {self.settings.kafka.bootstrap_servers}", began)
        from pipeline.admin.topics import ensure_topics  # noqa: PLC0415

        ensure_topics(self.settings)

    def _start_pipeline(self) -> None:
        began = time.monotonic()
        options = self.options
        counts = (
            ("worker", 2, options.workers),
            ("sink", 3, options.sinks),
            ("scheduler", 3, options.schedulers),
            ("late-lane", 3, options.late_lanes),
            ("payments", 3, options.payments),
            ("reconciler", 3, options.reconcilers),
            ("notifier", 3, options.notifiers),
        )
        for kind, stage, count in counts:
            for number in range(1, count + 1):
                self._running.start(self._pipeline_program(kind, number, stage=stage))
        said = ", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, _, count in counts)
        self._done(said, began)
        if options.gateways:
            self._start_gateway()

    def _start_gateway(self) -> None:
        began = time.monotonic()
        from pipeline.gateway.key_log import write_demo_key  # noqa: PLC0415  (as above)

        write_demo_key(self.settings)
        gateway = self.settings.gateway
        program = Program(
            name="gateway",
            stage=4,
            command=(*self.options.command, "gateway"),
            environment=child_environment(self.settings),
            directory=self.home.directory,
            healthy=lambda: is_alive(gateway.port),
            ports={"http": gateway.port},
        )
        self._running.start(program)
        self._running.wait_until(program.name, program.healthy)
        self._done(f"Gateway http://{LOOPBACK}:{gateway.port}", began)

    def _pipeline_program(self, kind: str, number: int | str, *, stage: int) -> Program:
        metrics = free_port()
        return Program(
            name=f"{kind}-{number}",
            stage=stage,
            command=(*self.options.command, kind),
            environment=child_environment(
                self.settings, CREDITSTREAM_METRICS__PORT=str(metrics), **self.options.environment
            ),
            ports={"metrics": metrics},
            directory=self.home.directory,
            # It ends itself when it makes no progress; alive is what is left to ask.
            healthy=lambda: True,
        )

    def _done(self, what: str, began: float) -> None:
        self._say(f"  ✓ {what}  ({time.monotonic() - began:.1f} s)")


def _require_disk(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < DISK_BYTES_MIN:
        raise StackError(
            f"expected at least {DISK_BYTES_MIN / 1e9:.0f} GB free for {directory}, got {free / 1e9:.2f} GB. "
            "Remedy: free some space, or set CREDITSTREAM_HOME to a directory on another disk."
        )


def _chosen_ports(options: StackOptions) -> _Ports:
    for port, option in (
        (options.kafka_port, "--kafka-port"),
        (options.clickhouse_port, "--clickhouse-port"),
        (options.native_port, "--native-port"),
        (options.gateway_port if options.gateways else None, "--gateway-port"),
    ):
        if port is not None:
            require_free(port, option=option)
    return _Ports(
        kafka=KafkaPorts(broker=options.kafka_port or free_port(), controller=free_port()),
        clickhouse=ClickHousePorts(
            http=options.clickhouse_port or free_port(), native=options.native_port or free_port()
        ),
        gateway=options.gateway_port or free_port(),
    )
