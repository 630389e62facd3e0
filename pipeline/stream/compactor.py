"""Starts the process that writes a partition's file of all rows anew (`compaction`): one at a time for all partitions.

A process of its own, with a low priority: it takes nothing from the worker but a core that has time.
"""

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import orjson

from pipeline.stream.whole_rows import Origin

RETRY_SECONDS: Final = 60.0
"""After one that failed."""

_LOG: Final = logging.getLogger(__name__)


class Compactor:
    """Used in one thread."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._next_at = 0.0

    def is_free(self) -> bool:
        """Whether another one may begin."""
        if self._child is not None and (code := self._child.poll()) is not None:
            self._child = None
            if code:
                _LOG.warning("the rows of a partition could not be written into one file: exit code %d", code)
                self._next_at = time.monotonic() + RETRY_SECONDS
        return self._child is None and time.monotonic() >= self._next_at

    def begin(self, directory: Path, origin: Origin, before: int) -> None:
        """Make one file of what stands in logs that begin before a position."""
        what = [str(directory.resolve()), orjson.dumps(origin.as_json()).decode(), str(before)]
        command = [sys.executable, "-m", "pipeline.stream.compaction", *what]
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  (our own program)
        except OSError as error:
            _LOG.warning("no process can be started to write a partition's rows into one file: %s", error)
            self._next_at = time.monotonic() + RETRY_SECONDS
