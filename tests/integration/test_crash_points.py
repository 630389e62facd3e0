"""Crash points: nothing when off; when on, an order holds exactly one process, in the phase that it names."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import crash_points
from pipeline.crash_points import Phase
from pipeline.settings import CRASH_POINTS, Settings, child_environment
from tests.stack import wait_until

PROGRAM = """
import asyncio, sys
from pipeline.crash_points import Phase, reached, reached_async
sys.stdin.readline()
reached(Phase.SINK_PLANNED, 3)
asyncio.run(reached_async(Phase.WORKER_POLLED, 1))
"""


@contextmanager
def programs(orders: Path, count: int) -> Iterator[list["subprocess.Popen[str]"]]:
    environment = child_environment(Settings(home=orders), **{CRASH_POINTS: str(orders)})
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdin=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for each in started:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        yield started
    finally:
        for each in started:
            each.kill()
            each.communicate()


def test_a_point_is_nothing_where_nobody_asked_for_chaos() -> None:
    assert crash_points.reached is crash_points._nothing
    assert crash_points.reached_async is crash_points._nothing_async


def test_one_of_two_processes_takes_the_order_and_stays_until_it_is_let_go(tmp_path: Path) -> None:
    (tmp_path / Phase.SINK_PLANNED).touch()
    with programs(tmp_path, 2) as started:
        wait_until(
            "one has gone through", lambda: sorted(each.poll() is None for each in started) == [False, True]
        )
        [standing] = [each for each in started if each.poll() is None]
        held = tmp_path / f"sink-planned.{standing.pid}.3"
        assert list(tmp_path.iterdir()) == [held]

        held.unlink()

        assert standing.wait(10) == 0


def test_a_coroutine_is_held_as_well(tmp_path: Path) -> None:
    (tmp_path / Phase.WORKER_POLLED).touch()
    with programs(tmp_path, 1) as [standing]:
        held = tmp_path / f"worker-polled.{standing.pid}.1"
        wait_until("it stands there", held.exists)

        held.unlink()

        assert standing.wait(10) == 0


def test_who_is_never_let_go_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_points, "_DIRECTORY", tmp_path)
    monkeypatch.setattr(crash_points, "HELD_SECONDS_MAX", 0.05)
    (tmp_path / Phase.SINK_PLANNED).touch()

    crash_points._hold(Phase.SINK_PLANNED)

    assert list(tmp_path.iterdir()) == []
