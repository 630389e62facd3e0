"""`creditstream doctor`: looks at everything the stack needs, one line each, and a remedy where something is wrong.

Changes nothing and downloads nothing. What is merely not started yet is no finding.
"""

import email.utils
import importlib.metadata
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import psutil

from pipeline.local import LocalStackError
from pipeline.local.home import Home
from pipeline.local.jars import KAFKA_VERSION, jars_directory, missing_jars
from pipeline.local.java import find_java
from pipeline.local.ports import LOOPBACK, require_free
from pipeline.local.stack import DISK_BYTES_MIN, StackOptions
from pipeline.local.status import stack_status
from pipeline.settings import Settings

DISK_BYTES_COMFORT: Final = 3_000_000_000
MEMORY_BYTES_COMFORT: Final = 2_000_000_000
"""A broker, a ClickHouse, a worker and a sink under load."""
CLOCK_SECONDS_MAX: Final = 5
"""Between this machine and ClickHouse's; instants from both are compared."""
PROBE_SECONDS: Final = 3
WHEELS: Final = ("confluent-kafka", "faust-streaming", "clickhouse-connect", "chdb-core", "jgo", "psutil")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    found: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which the stack needs it."""
    running = Home(settings.home).supervisor() is not None
    return [
        _python(),
        *_wheels(),
        _java(),
        _jars(),
        _disk(settings.home.resolve()),
        _memory(),
        *([_stack(settings)] if running else _ports()),
        _kafka(settings, running=running),
        *_clickhouse(settings, running=running),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding(level="ok", subject="python", found=version)
    return Finding(level="fail", subject="python", found=version, remedy="use Python 3.11, 3.12 or 3.13")


def _wheels() -> Sequence[Finding]:
    found: list[str] = []
    missing: list[str] = []
    for wheel in WHEELS:
        try:
            found.append(f"{wheel} {importlib.metadata.version(wheel)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(wheel)
    if not missing:
        return [Finding(level="ok", subject="wheels", found=", ".join(found))]
    remedy = "pip install 'creditstream[local]' (on Linux with glibc or on macOS: there is no other wheel)"
    return [Finding(level="fail", subject="wheels", found=f"missing: {', '.join(missing)}", remedy=remedy)]


def _java() -> Finding:
    try:
        java = find_java()
    except LocalStackError as error:
        return Finding(
            level="fail", subject="java", found=str(error), remedy="set JAVA_HOME to Java 17 or later"
        )
    return Finding(level="ok", subject="java", found=f"{java.release} ({java.origin}: {java.path})")


def _jars() -> Finding:
    directory = jars_directory()
    missing = missing_jars(directory)
    if not missing:
        return Finding(level="ok", subject="kafka jars", found=f"{KAFKA_VERSION}, verified, in {directory}")
    megabytes = sum(jar.size_bytes for jar in missing) / 1e6
    return Finding(
        level="ok",
        subject="kafka jars",
        found=f"{len(missing)} to fetch at the next start ({megabytes:.0f} MB)",
    )


def _disk(home: Path) -> Finding:
    there = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:.1f} GB free for {home}"
    if free >= DISK_BYTES_COMFORT:
        return Finding(level="ok", subject="disk", found=found)
    level: Literal["warn", "fail"] = "warn" if free >= DISK_BYTES_MIN else "fail"
    return Finding(
        level=level, subject="disk", found=found, remedy="free some, or set CREDITSTREAM_HOME elsewhere"
    )


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    found = f"{available / 1e9:.1f} GB available"
    if available >= MEMORY_BYTES_COMFORT:
        return Finding(level="ok", subject="memory", found=found)
    return Finding(
        level="warn", subject="memory", found=found, remedy="end other programs; 2 GB are comfortable"
    )


def _ports() -> Sequence[Finding]:
    options = StackOptions()
    wanted = {
        "--kafka-port": options.kafka_port,
        "--clickhouse-port": options.clickhouse_port,
        "--native-port": options.native_port,
        "--gateway-port": options.gateway_port,
    }
    findings: list[Finding] = []
    for option, port in wanted.items():
        assert port is not None, "expected the defaults to be numbers"
        try:
            require_free(port, option=option)
        except LocalStackError as error:
            what, _, remedy = str(error).partition(" Remedy: ")
            findings.append(Finding(level="warn", subject=f"port {port}", found=what, remedy=remedy))
    return findings or [
        Finding(level="ok", subject="ports", found=f"{', '.join(map(str, wanted.values()))} free")
    ]


def _stack(settings: Settings) -> Finding:
    status = stack_status(settings)
    unwell = [process["name"] for process in status["processes"] if not process["healthy"]]
    restarts = sum(process["restarts"] for process in status["processes"])
    found = f"{len(status['processes'])} processes, {restarts} restarts"
    if not unwell:
        return Finding(level="ok", subject="stack", found=found)
    logs = Home(settings.home).logs
    return Finding(
        level="fail",
        subject="stack",
        found=f"{found}; unwell: {', '.join(unwell)}",
        remedy=f"read {logs}/<name>.log",
    )


def _kafka(settings: Settings, *, running: bool) -> Finding:
    from pipeline.local.kafka_server import is_ready  # noqa: PLC0415  (keeps `doctor --help` quick)

    servers = settings.kafka.bootstrap_servers
    return _server("kafka", servers, answers=lambda: is_ready(settings.kafka), running=running)


def _clickhouse(settings: Settings, *, running: bool) -> Sequence[Finding]:
    url = settings.clickhouse.url
    date = _date(url)
    found = _server("clickhouse", url, answers=lambda: date is not None, running=running)
    if date is None:
        return [found]
    ahead = time.time() - date  # noqa: TID251  (the clock is what is looked at)
    if abs(ahead) <= CLOCK_SECONDS_MAX:
        return [found, Finding(level="ok", subject="clock", found="agrees with ClickHouse's")]
    remedy = "switch on NTP on both machines"
    return [
        found,
        Finding(level="warn", subject="clock", found=f"{ahead:+.0f} s off ClickHouse's", remedy=remedy),
    ]


def _date(url: str) -> float | None:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=PROBE_SECONDS) as answer:  # noqa: S310
            return email.utils.parsedate_to_datetime(str(answer.headers["Date"])).timestamp()
    except OSError:
        return None


def _server(subject: str, address: str, *, answers: Callable[[], bool], running: bool) -> Finding:
    if answers():
        return Finding(level="ok", subject=subject, found=f"answers at {address}")
    if not running and LOOPBACK in address:
        return Finding(level="ok", subject=subject, found="not started")
    return Finding(
        level="fail",
        subject=subject,
        found=f"no answer at {address}",
        remedy="creditstream up, or correct the address",
    )
