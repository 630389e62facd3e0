"""Disks that refuse, for a while: a full one by the system's limit on file sizes, one that is read-only by its flags.

Both are the kernel's own refusals (EFBIG, EPERM or EACCES), met by whatever code writes there at that moment.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_READ_ONLY_MODE: Final = 0o500
_READ_WRITE_MODE: Final = 0o700
_CHATTR_SECONDS_MAX: Final = 10


@contextmanager
def full_disk(pid: int) -> Generator[None, None, None]:
    """No file of this process grows meanwhile."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # It ended: its successor has the limits of the stack.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(directory: Path) -> Generator[None, None, None]:
    """Nobody creates, renames or removes a file in this directory meanwhile. Raises OSError where that cannot be."""
    directory.mkdir(parents=True, exist_ok=True)
    _forbid(directory)
    try:
        yield
    finally:
        _allow(directory)


def _forbid(directory: Path) -> None:
    if os.geteuid():
        directory.chmod(_READ_ONLY_MODE)
    else:
        _chattr("+i", directory)  # Modes bind everybody but root.


def _allow(directory: Path) -> None:
    if os.geteuid():
        directory.chmod(_READ_WRITE_MODE)
    else:
        _chattr("-i", directory)


def _chattr(flag: str, directory: Path) -> None:
    chattr = shutil.which("chattr")
    if chattr is None:
        raise OSError(
            "expected chattr to make a directory read-only for root; found none: run as another user"
        )
    told = subprocess.run(  # noqa: S603
        [chattr, flag, str(directory)],
        capture_output=True,
        text=True,
        timeout=_CHATTR_SECONDS_MAX,
        check=False,
    )
    if told.returncode:
        raise OSError(f"expected `chattr {flag} {directory}` to succeed, got: {told.stderr.strip()}")
