"""Ends the children of a supervisor that is gone, whatever ended it; nothing else.

It is in the process group that every child is born into, and reads a pipe whose other end only the supervisor
has. When the pipe closes it ends the group: SIGTERM, a bounded wait, SIGKILL. It also holds the state
directory's lock, so that the next supervisor waits until the group is gone.
"""

import os
import signal
import sys
import time
from typing import Final

import psutil

TERM_SECONDS_MAX: Final = 8
"""For a broker to close its log segments; less than the next supervisor waits for the lock."""
POLL_SECONDS: Final = 0.1


def main() -> None:
    """Waits for the end of standard input, then ends the process group that it leads."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    group = os.getpgrp()
    os.killpg(group, signal.SIGTERM)
    os.killpg(group, signal.SIGCONT)  # A stopped child would not see SIGTERM.
    until = time.monotonic() + TERM_SECONDS_MAX
    while _has_others(group):
        if time.monotonic() > until:
            os.killpg(group, signal.SIGKILL)  # Itself too: its work is done.
        time.sleep(POLL_SECONDS)


def _has_others(group: int) -> bool:
    return any(_is_member(process, group) for process in psutil.process_iter())


def _is_member(process: psutil.Process, group: int) -> bool:
    try:
        # Nobody may be left to reap a dead child: a zombie has ended.
        return (
            process.pid != os.getpid()
            and os.getpgid(process.pid) == group
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


if __name__ == "__main__":
    main()
