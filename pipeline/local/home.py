"""The state directory of a local stack: who holds it, what it says to other programs, which secrets it made.

One supervisor at a time. The lock belongs to an open file that the guardian shares, so it is free only when the
children are gone too; a lock without a living supervisor is waited for and taken over.
"""

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import psutil

from pipeline.gateway.keys import new_secret
from pipeline.local import LocalStackError
from pipeline.local.guardian import TERM_SECONDS_MAX
from pipeline.settings import STATE_FILE

KILL_SECONDS_MAX: Final = 10
LOCK_SECONDS_MAX: Final = TERM_SECONDS_MAX + 7
"""For the guardian of a supervisor that was killed to end its children."""
POLL_SECONDS: Final = 0.1
SECRET_BYTES: Final = 32
COMMAND_KEY_ID: Final = "local"
OWN_DIRECTORIES: Final = (
    "kafka", "clickhouse", "faust", "accounts", "identities", "workers", "logs", "outbox",
)  # fmt: skip


class AlreadyUpError(LocalStackError):
    """Another supervisor holds the directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildState:
    """One child as `creditstream status` shows it."""

    name: str
    pid: int
    started_at: float
    """Seconds since the epoch, as the system says: with the pid it names one process for ever."""
    restarts: int
    healthy: bool
    ports: Mapping[str, int]

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(float(process.create_time()) - self.started_at) < 1
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """What `stack.json` says while a stack runs."""

    children: tuple[ChildState, ...]


class Home:
    """The directory's places, made when first needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.logs = self.directory / "logs"
        self._settings = self.directory / STATE_FILE
        self._state = self.directory / "stack.json"
        self._lock = self.directory / "stack.lock"

    def make_directories(self) -> None:
        """The state directory, closed to others, and the logs'."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)

    def lock(self) -> IO[str]:
        """Takes the directory for this process, until the file and its copies are closed."""
        self.make_directories()
        file = self._lock.open("a+")
        until = time.monotonic() + LOCK_SECONDS_MAX
        while not _locks(file):
            holder = self.supervisor()
            if holder is not None or time.monotonic() > until:
                file.close()
                raise AlreadyUpError(self._refusal(holder))
            time.sleep(POLL_SECONDS)
        _end_orphans(self.state())
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file

    def _refusal(self, holder: int | None) -> str:
        if holder is None:
            return (
                f"expected {self._lock} to be released within {LOCK_SECONDS_MAX} s by a stack that was killed"
            )
        return (
            f"expected nobody to use {self.directory}, a stack runs there already (pid {holder}). "
            "Remedy: `creditstream down`, or another directory in CREDITSTREAM_HOME."
        )

    def supervisor(self) -> int | None:
        """The living supervisor's pid."""
        if not self._lock.exists():
            return None
        with self._lock.open() as file:
            text = file.read()
            if not text or _locks(file):
                return None
        return int(text) if _is_running(int(text)) else None

    def state(self) -> StackState | None:
        """What the last supervisor wrote."""
        if not self._state.exists():
            return None
        read = json.loads(self._state.read_text())
        children = tuple(ChildState(**child) for child in read["children"])
        return StackState(children=children)

    def write_state(self, state: StackState) -> None:
        _replace(self._state, asdict(state))

    def forget_state(self) -> None:
        self._state.unlink(missing_ok=True)

    def settings(self) -> dict[str, Any]:
        """What `settings.json` holds now."""
        return dict(json.loads(self._settings.read_text())) if self._settings.exists() else {}

    def write_settings(self, *changes: Mapping[str, Any]) -> None:
        """Merges the changes into `settings.json`; what a person put there stays."""
        merged = self.settings()
        for change in changes:
            merged = _merged(merged, change)
        _replace(self._settings, merged)

    def wipe(self) -> list[str]:
        """Deletes what the stack wrote; returns the names of what somebody else put there."""
        for name in OWN_DIRECTORIES:
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for path in (self._settings, self._state, self._lock):
            path.unlink(missing_ok=True)
        return sorted(path.name for path in self.directory.glob("*"))

    def make_secrets(self) -> None:
        """Passwords and keys, made once and kept: the data outlives a restart, so must they."""
        made = {
            "clickhouse": {"password": _secret(), "analyst_password": _secret()},
            "command_key_id": COMMAND_KEY_ID,
            "command_keys": {COMMAND_KEY_ID: _secret()},
            "gateway": {"demo_key": new_secret()},
            "notifier": {"key_id": COMMAND_KEY_ID, "keys": {COMMAND_KEY_ID: _secret()}},
        }
        _replace(self._settings, _merged(made, self.settings()))


def _secret() -> str:
    return secrets.token_hex(SECRET_BYTES)


def _is_running(pid: int) -> bool:
    try:
        # Killed and not yet noticed by its parent is ended.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_orphans(state: StackState | None) -> None:
    """Children of a stack whose guardian was killed too."""
    orphans = [psutil.Process(child.pid) for child in (state.children if state else ()) if child.is_alive()]
    for orphan in orphans:
        orphan.kill()
    psutil.wait_procs(orphans, timeout=KILL_SECONDS_MAX)  # Their ports and files are free only then.


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in change.items():
        known = merged.get(name)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(cast("Mapping[str, Any]", known), cast("Mapping[str, Any]", value))
        else:
            merged[name] = value
    return merged


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Readers see the old file or the new one; only the user may read it."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content, indent=2) + "\n")
    draft.replace(path)
