"""Real servers for tests: one broker and one ClickHouse a session, shared by all pytest-xdist workers.

The worker that needs a server first starts and owns it, the others join. A lock file says whether the owner
lives, another counts the users: the owner stops its server when the last user has left.
"""

import fcntl
import json
import shutil
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from pydantic import SecretStr

from pipeline.local.child import Child, Group, Program, log_tail
from pipeline.local.clickhouse_config import ClickHousePorts, ClickHouseUsers
from pipeline.local.clickhouse_server import clickhouse_program
from pipeline.local.jars import ensure_jars
from pipeline.local.kafka_server import KafkaPorts, is_ready, kafka_program
from pipeline.local.ports import free_port
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings, child_environment

START_SECONDS_MAX: Final = 90
MEMORY: Final = Path("/dev/shm")
MEMORY_BYTES_MIN: Final = 4_000_000_000
"""Free: several times what a session's servers hold."""
SOON_MISSED: Final = {"group.min.session.timeout.ms": "1000"}
"""Of the broker: tests that kill a member of a group need not wait six seconds until it is missed."""
OWNER_PASSWORD: Final = "owner-of-tests"
ANALYST_PASSWORD: Final = "analyst-of-tests"

T = TypeVar("T")
Values = Mapping[str, Any]


def wait_until(what: str, found: Callable[[], T | None], seconds_max: float = 30) -> T:
    """Asks until the answer is something (not None, False or an empty list), and fails with `what` after the bound."""
    until = time.monotonic() + seconds_max
    while True:
        answer = found()
        if answer is not None and answer is not False and answer != []:
            return answer
        assert time.monotonic() < until, f"expected within {seconds_max} s: {what}"
        time.sleep(0.02)


@contextmanager
def kafka_server(directory: Path, lock: IO[str]) -> Generator[Values, None, None]:
    """A broker; yields what `KafkaSettings` needs."""
    environment = child_environment(Settings(home=directory))
    ports = KafkaPorts(broker=free_port(), controller=free_port())
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{ports.broker}")
    program = kafka_program(directory, ports, environment, jars=ensure_jars(), properties=SOON_MISSED)
    with running(program, directory, lock, lambda: program.healthy() and is_ready(settings)):
        yield {"bootstrap_servers": settings.bootstrap_servers}


@contextmanager
def clickhouse_server(directory: Path, lock: IO[str]) -> Generator[Values, None, None]:
    """A ClickHouse; yields what `ClickHouseSettings` needs."""
    environment = child_environment(Settings(home=directory))
    ports = ClickHousePorts(http=free_port(), native=free_port())
    users = ClickHouseUsers(
        owner="creditstream",
        owner_password=SecretStr(OWNER_PASSWORD),
        analyst="analyst",
        analyst_password=SecretStr(ANALYST_PASSWORD),
        analyst_databases=["test_*"],
    )
    program = clickhouse_program(directory, ports, users, environment)
    with running(program, directory, lock, program.healthy):
        yield {
            "url": f"http://127.0.0.1:{ports.http}",
            "native_port": ports.native,
            "password": OWNER_PASSWORD,
            "analyst_password": ANALYST_PASSWORD,
        }


@contextmanager
def running(
    program: Program, directory: Path, lock: IO[str], is_up: Callable[[], bool]
) -> Generator[None, None, None]:
    group = Group(lock.fileno())
    log = directory / f"{program.name}.log"
    child = Child(program, group, log)

    def up() -> bool:
        assert child.exit_code() is None, f"{program.name} ended:\n{log_tail(log)}"
        return is_up()

    try:
        wait_until(f"{program.name} is ready", up, START_SECONDS_MAX)
        yield
    finally:
        child.stop()
        group.close()
        shutil.rmtree(directory / "data", ignore_errors=True)


@contextmanager
def shared(
    directory: Path, start: Callable[[Path, IO[str]], AbstractContextManager[Values]]
) -> Generator[Values, None, None]:
    """What `start` yields, from the one server of this session."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / "turn.lock").open("w") as turn,
        (directory / "owner.lock").open("w") as owner,
        (directory / "users.lock").open("w") as users,
    ):
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not _locks(owner):
            fcntl.flock(users, fcntl.LOCK_SH)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield json.loads((directory / "server.json").read_text())
            return
        with in_memory(directory / "data"), start(directory, owner) as values:
            (directory / "server.json").write_text(json.dumps(values))
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield values
            fcntl.flock(turn, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_EX)  # Waits for the last user.


@contextmanager
def in_memory(directory: Path) -> Generator[None, None, None]:
    """A directory that is in memory where the machine offers that: tests kill processes and not machines, and each
    topic and table that they make would wait for the disk many times."""
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES_MIN:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="creditstream-tests-", dir=MEMORY) as place:
        directory.symlink_to(place)
        yield
        directory.unlink()


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def execute(clickhouse: ClickHouseSettings, statement: str) -> str:
    """Runs one statement as the owner, by plain HTTP."""
    request = urllib.request.Request(
        f"{clickhouse.url}/?{urllib.parse.urlencode({'query': statement})}",
        data=b"",
        headers={
            "X-ClickHouse-User": clickhouse.user,
            "X-ClickHouse-Key": clickhouse.password.get_secret_value(),
        },
    )
    with urllib.request.urlopen(request, timeout=clickhouse.insert_timeout_seconds) as answer:
        return str(answer.read().decode())
