"""Disks that refuse are the kernel's own refusals, and end with the fault."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chaos.starving import full_disk, read_only
from pipeline.crash_points import Phase
from pipeline.settings import CRASH_POINTS, Settings, child_environment
from pipeline.state import IDENTITY_BYTES
from pipeline.stream.closed_hours import ClosedHours
from tests.stack import wait_until

WRITER = """
import sys
from pathlib import Path
from pipeline.state import IDENTITY_BYTES
from pipeline.stream.closed_hours import ClosedHours
hours = ClosedHours(directory=Path(sys.argv[1]), topic_id="topic", partition=3)
for hour in (1, 2):
    closed = hours.close(hour, bytes(IDENTITY_BYTES))
    print(len(closed), closed.memory_bytes > 8, flush=True)
"""


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.identities"))


def test_on_a_full_disk_an_hour_stays_in_memory_and_the_next_one_is_written_again(tmp_path: Path) -> None:
    orders, written = tmp_path / "orders", tmp_path / "written"
    orders.mkdir()
    (orders / Phase.WORKER_CLOSING).touch()
    environment = child_environment(Settings(home=tmp_path), **{CRASH_POINTS: str(orders)})
    command = [sys.executable, "-c", WRITER, str(written)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        held = orders / f"{Phase.WORKER_CLOSING}.{process.pid}.3"
        wait_until("it stands before its file", held.exists)
        (orders / Phase.WORKER_CLOSING).touch()
        with full_disk(process.pid):
            held.unlink()
            assert process.stdout.readline() == "1 True\n"
        wait_until("it stands before the second file", held.exists)
        held.unlink()
        assert process.stdout.readline() == "1 False\n"

    assert files(written) == ["2.identities"]


def test_in_a_read_only_directory_an_hour_stays_in_memory(tmp_path: Path) -> None:
    hours = ClosedHours(directory=tmp_path / "written", topic_id="topic", partition=3)
    with read_only(tmp_path / "written"):
        assert hours.close(1, bytes(IDENTITY_BYTES)).memory_bytes > IDENTITY_BYTES
    hours.close(2, bytes(IDENTITY_BYTES))

    assert files(tmp_path / "written") == ["2.identities"]


def test_a_process_that_has_ended_needs_no_room_again() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with full_disk(process.pid):
        process.kill()
        process.communicate()

    with pytest.raises(ProcessLookupError), full_disk(process.pid):
        pass
