"""Children are kept running while the supervisor lives, and none outlives it, whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.local.child import Group
from pipeline.local.home import AlreadyUpError, ChildState, Home
from pipeline.local.supervisor import DELAY_SECONDS_FIRST, Supervisor
from tests.integration.supervised import program
from tests.stack import wait_until

Supervising = subprocess.Popen[str]


@contextmanager
def supervising(home: Path) -> Generator[Supervising, None, None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.supervised", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def children(home: Path) -> tuple[ChildState, ...]:
    state = Home(home).state()
    assert state is not None
    return state.children


def guardian_of(supervisor: Supervising) -> psutil.Process | None:
    """The living one: between a guardian's death and its successor there is none."""
    for child in psutil.Process(supervisor.pid).children():
        if child.status() != psutil.STATUS_ZOMBIE and "pipeline.local.guardian" in child.cmdline():
            return child
    return None


def test_a_supervisor_that_is_killed_leaves_no_child_even_a_stopped_one(tmp_path: Path) -> None:
    with supervising(tmp_path) as supervisor:
        before = children(tmp_path)
        guardian = wait_until("a guardian", lambda: guardian_of(supervisor))
        os.kill(before[0].pid, signal.SIGSTOP)

        supervisor.kill()

        wait_until("no child lives", lambda: not any(child.is_alive() for child in before))
        wait_until(
            "the guardian has ended", lambda: not guardian.is_running() or guardian.status() == "zombie"
        )


def test_a_child_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with supervising(tmp_path):
        first = children(tmp_path)[0]

        os.kill(first.pid, signal.SIGKILL)

        again = wait_until(
            "another first", lambda: children(tmp_path)[0] if children(tmp_path)[0].pid != first.pid else None
        )
        assert (again.name, again.restarts) == ("first", 1)


@pytest.mark.parametrize("was_well", [True, False])
def test_a_child_that_was_well_is_killed_when_it_is_not_any_more_and_a_slow_start_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, was_well: bool
) -> None:
    monkeypatch.setattr("pipeline.local.supervisor.HEALTH_SECONDS", 0.05)
    monkeypatch.setattr("pipeline.local.supervisor.UNWELL_SECONDS_MAX", 0.2)
    answers = iter([was_well] * 3)
    home = Home(tmp_path)
    with home.lock() as lock:
        group = Group(lock.fileno())
        supervisor = Supervisor(group, home.logs, lambda _: None)
        supervisor.start(replace(program(home, "first"), healthy=lambda: next(answers, False)))
        before = supervisor.child("first")

        assert noticed(lambda: before.exit_code() is not None, 2) == was_well

        supervisor.close()
        group.close()


def test_a_child_that_is_kept_down_is_started_again_only_afterwards(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.lock() as lock:
        group = Group(lock.fileno())
        supervisor = Supervisor(group, home.logs, lambda _: None)
        supervisor.start(program(home, "first"))
        supervisor.keep_down("first")
        before = supervisor.child("first")
        before.kill()
        assert not noticed(lambda: supervisor.child("first").pid != before.pid, DELAY_SECONDS_FIRST + 1)

        supervisor.keep_up("first")

        wait_until("another first", lambda: supervisor.child("first").pid != before.pid)
        supervisor.close()
        group.close()


def noticed(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_children_are_guarded_again_when_the_guardian_is_killed(tmp_path: Path) -> None:
    with supervising(tmp_path) as supervisor:
        before = children(tmp_path)
        first = wait_until("a guardian", lambda: guardian_of(supervisor))
        first.kill()
        first.wait(10)
        wait_until("another guardian", lambda: guardian_of(supervisor))

        supervisor.kill()

        wait_until("no child lives", lambda: not any(child.is_alive() for child in before))


def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with supervising(tmp_path) as supervisor, pytest.raises(AlreadyUpError, match=f"pid {supervisor.pid}"):
        Home(tmp_path).lock()


def test_the_directory_of_a_killed_supervisor_is_taken_over_when_its_children_are_gone(
    tmp_path: Path,
) -> None:
    with supervising(tmp_path) as supervisor:
        before = children(tmp_path)
        supervisor.kill()
        supervisor.wait(10)

        with Home(tmp_path).lock():
            assert not any(child.is_alive() for child in before)


def test_children_whose_guardian_was_killed_too_end_before_the_next_start(tmp_path: Path) -> None:
    with supervising(tmp_path) as supervisor:
        before = children(tmp_path)
        supervisor.send_signal(signal.SIGSTOP)  # So that it sets no new guardian.
        wait_until("a guardian", lambda: guardian_of(supervisor)).kill()
        supervisor.kill()
        supervisor.wait(10)
        assert all(child.is_alive() for child in before)

        with Home(tmp_path).lock():
            assert not any(child.is_alive() for child in before)


def test_a_supervisor_that_ends_in_order_leaves_no_child(tmp_path: Path) -> None:
    with supervising(tmp_path):
        before = children(tmp_path)

    assert not any(child.is_alive() for child in before)


def test_what_a_person_put_into_the_settings_and_the_secrets_outlive_a_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.write_settings({"worker": {"batch_rows_max": 7}})
    home.make_secrets()
    before = home.settings()
    home.make_secrets()
    home.write_settings({"kafka": {"bootstrap_servers": "127.0.0.1:1"}})

    assert home.settings() == before | {"kafka": {"bootstrap_servers": "127.0.0.1:1"}}
    assert (tmp_path / "settings.json").stat().st_mode & 0o777 == 0o600
