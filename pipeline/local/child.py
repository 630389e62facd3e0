"""Child processes: what one runs (`Program`), one that lives (`Child`), the group that none outlives."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.local import LocalStackError, guardian

KILL_SECONDS_MAX: Final = 10
"""For the system to end a process after SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a child runs, and how to tell that it is well."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    healthy: Callable[[], bool]
    """Asked often and from one thread: quick, and False rather than an exception."""
    stage: int
    """Of the shutdown: the highest stage ends first, one stage's children together."""
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    start_seconds_max: int = 180
    stop_seconds_max: int = 15
    """Between SIGTERM and SIGKILL."""


class ChildFailedError(LocalStackError):
    """A child ended or stayed unwell where it was expected to come up; carries the end of its log."""


class Group:
    """The process group of all children, led by the guardian that ends it when this process is gone."""

    def __init__(self, lock_file: int) -> None:
        self._lock_file = lock_file
        self._guardian = self._spawned(0)
        self.id = self._guardian.pid

    def guard(self) -> None:
        """Sets a new guardian where somebody killed the last one."""
        if self._guardian.poll() is not None:
            self._guardian = self._spawned(self.id)

    def _spawned(self, group: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", guardian.__name__],
            stdin=subprocess.PIPE,
            process_group=group,
            pass_fds=(self._lock_file,),
        )

    def close(self) -> None:
        """Ends what is left of the group."""
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        self._guardian.wait(guardian.TERM_SECONDS_MAX + KILL_SECONDS_MAX)


class Child:
    """One running process of a program."""

    def __init__(self, program: Program, group: Group, log: Path) -> None:
        self.program = program
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                program.command,
                env=dict(program.environment),
                cwd=program.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=group.id,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to it, if it still runs."""
        self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        """SIGTERM, and SIGCONT: a stopped process would not see it."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Asks it to stop and waits; past the bound kills it."""
        self.ask_to_stop()
        try:
            self._process.wait(self.program.stop_seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and the wait for its end."""
        self.signal(signal.SIGKILL)
        self._process.wait(KILL_SECONDS_MAX)


def log_tail(log: Path, *, lines_max: int = 15, bytes_max: int = 8192) -> str:
    """The last lines of a log, for a message."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - bytes_max))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines_max:])
