"""`creditstream up` on an empty directory, as a person runs it; and what it says when it cannot start."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.local.jars import ensure_jars, locked_jars, missing_jars
from pipeline.local.ports import PortTakenError, require_free
from tests.stack import wait_until

pytestmark = pytest.mark.integration
AUTO = ("--kafka-port=auto", "--clickhouse-port=auto", "--native-port=auto", "--gateway-port=auto")


def creditstream(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env={**os.environ, "CREDITSTREAM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


METRICS = {
    "worker-1": r"^creditstream_worker_batch_records_count [1-9]",
    "sink-1": r"^# TYPE creditstream_sink_lag_records gauge$",
    "scheduler-1": r"^creditstream_scheduler_ticks_total [1-9]",
    "late-lane-1": r"^# TYPE creditstream_late_lane_events_total counter$",
    "payments-1": r"^creditstream_payments_waiting_orders 0",
    "reconciler-1": r"^# TYPE creditstream_reconcile_equal_up_to_offset gauge$",
    "notifier-1": r"^creditstream_notifier_open_deliveries 0",
}


def shows(port: int, pattern: str) -> bool:
    """Whether the program there shows such a metric."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return re.search(pattern, answer.read().decode(), re.MULTILINE) is not None
    except OSError:
        return False


def test_up_starts_all_status_shows_all_a_killed_worker_returns_and_down_ends_all(tmp_path: Path) -> None:
    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(creditstream(tmp_path, "status", "--json").stdout)
        return found

    def process(name: str) -> dict[str, Any]:
        return next(process for process in status()["processes"] if process["name"] == name)

    started = creditstream(tmp_path, "up", "--detach", "--json", *AUTO)
    try:
        assert started.returncode == 0, started.stderr
        assert "password" not in started.stdout + started.stderr
        said = status()
        assert len(said["addresses"]["analyst_password"]) == 64
        ports = {process["name"]: process["ports"] for process in said["processes"]}
        assert ports.keys() == {"kafka", "clickhouse", "gateway", *METRICS}
        for name, shown in METRICS.items():
            wait_until(f"{name} shows {shown}", partial(shows, ports[name]["metrics"], shown), 60)
        wait_until("the reconciler's first marks", lambda: all_compared(status()), 60)
        again = creditstream(tmp_path, "up", "--detach", *AUTO)
        assert (again.returncode, "already" in again.stderr) == (1, True)

        pid = process("worker-1")["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until("another worker-1", lambda: process("worker-1")["pid"] != pid)
    finally:
        stopped = creditstream(tmp_path, "down")

    assert stopped.returncode == 0, stopped.stderr
    assert status()["running"] is False
    assert creditstream(tmp_path, "reset", "--yes").returncode == 0
    assert list(tmp_path.iterdir()) == []


def all_compared(status: dict[str, Any]) -> bool:
    """With the lags of every partition beside it."""
    for partition in status["partitions"] or ():
        assert partition["differences"] == []
        assert partition["worker_lag_records"] >= 0
        assert partition["sink_lag_offsets"] >= 0
    return all(
        partition["compared_seconds_ago"] is not None
        for partition in status["partitions"] or [{"compared_seconds_ago": None}]
    )


def test_a_taken_port_names_its_holder_and_the_way_round_it() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(PortTakenError, match=rf"\(pid {os.getpid()}\).* --kafka-port auto"):
            require_free(port, option="--kafka-port")


def test_a_jar_that_differs_by_one_byte_from_the_lock_is_not_there(tmp_path: Path) -> None:
    jars = ensure_jars()
    for jar in locked_jars():
        (tmp_path / jar.file_name).symlink_to(jars / jar.file_name)
    changed = locked_jars()[0]
    copy = tmp_path / changed.file_name
    copy.unlink()
    shutil.copy(jars / changed.file_name, copy)
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)

    assert missing_jars(tmp_path) == [changed]
