"""ClickHouse's own HTTP and native listeners, from the chdb wheel, as a child that owns the data directory.

chdb's low-level `query` runs a whole clickhouse-local, whose SYSTEM START LISTEN opens the real listeners.
The last statement of the boot script reads a pipe: the server serves until it closes, then shuts down.
"""

import importlib
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from pipeline.local.child import Program
from pipeline.local.clickhouse_config import ClickHousePorts, ClickHouseUsers, write_config
from pipeline.local.ports import LOOPBACK

SHUTDOWN_SECONDS_MAX: Final = 12
"""The engine drains open keep-alive connections for five seconds first."""
PING_TIMEOUT_SECONDS: Final = 2


def clickhouse_program(
    directory: Path, ports: ClickHousePorts, users: ClickHouseUsers, environment: Mapping[str, str]
) -> Program:
    """Writes the configuration and says how to run the server."""
    write_config(directory / "run", ports, users)
    # Without this folder the engine skips its background tasks on a fresh path, and DROP … SYNC never ends.
    (directory / "data" / "metadata").mkdir(parents=True, exist_ok=True)
    return Program(
        name="clickhouse",
        stage=1,
        command=(sys.executable, "-m", __name__, str(directory.resolve())),
        environment=environment,
        directory=directory,
        healthy=lambda: answers_ping(ports.http),
        ports={"http": ports.http, "native": ports.native},
        stop_seconds_max=SHUTDOWN_SECONDS_MAX + 3,
    )


def answers_ping(http_port: int) -> bool:
    """Whether a ClickHouse answers there."""
    try:
        with urllib.request.urlopen(
            f"http://{LOOPBACK}:{http_port}/ping", timeout=PING_TIMEOUT_SECONDS
        ) as answer:
            return bool(answer.read() == b"Ok.\n")
    except OSError:
        return False


def serve(directory: Path) -> int:
    """Runs the server in this process until SIGTERM or SIGINT; the exit code."""
    # Before chdir: the import boots an engine of its own, which must not read our configuration.
    # The engine is a native module that ships no types.
    query: Callable[..., Any] = importlib.import_module("chdb._chdb").query

    os.chdir(directory / "run")  # clickhouse-local reads ./config.xml.
    read_end, write_end = os.pipe()
    ended = threading.Event()
    errors: list[str] = []

    def engine() -> None:
        answer = query(_boot_script(read_end), "TSV", path=str(directory / "data"))
        if answer.has_error():
            errors.append(answer.error_message())
        ended.set()

    thread = threading.Thread(target=engine, name="clickhouse", daemon=True)
    thread.start()

    def stop(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ended.wait()
    asked_to_stop = thread.is_alive()
    os.close(write_end)
    thread.join(SHUTDOWN_SECONDS_MAX)
    if errors:
        print("\n".join(errors), file=sys.stderr, flush=True)  # noqa: T201
    return 0 if asked_to_stop and not thread.is_alive() and not errors else 1


def _boot_script(read_end: int) -> str:
    wait = f"SELECT * FROM file('/dev/fd/{read_end}', 'LineAsString', 'line String')"  # noqa: S608
    wait += " SETTINGS storage_file_read_method = 'read' FORMAT Null"
    return f"SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; {wait}"


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])))
