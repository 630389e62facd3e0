"""Watches a run from outside: what memory each process takes, and whether one refuses to go on."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from pipeline.local.stack import LocalStack

LOOK_SECONDS: Final = 1.0
NOTICED: Final = ("worker ends with code 4", "worker ends with code 6", "SinkRefusedError:", "AssertionError")
"""Signs in the logs; what broken connections and fences bring is none of them."""
MEMORY_BYTES_MAX: Final = {
    "worker": 1_500_000_000,
    "sink": 1_000_000_000,
    "scheduler": 300_000_000,
    "payments": 300_000_000,
    "late-lane": 400_000_000,
    "reconciler": 800_000_000,
    "kafka": 1_500_000_000,
    "clickhouse": 3_000_000_000,
}
"""Resident, of one process at any moment of a run: what its named limits come to, and some room. A sink may hold two
blocks of `sink.batch_bytes_max` for each stored topic and partition, a worker two batches for each partition and
its table, Kafka its heap, ClickHouse `clickhouse_config.MEMORY_BYTES_MAX`."""


class Watch:
    """Runs in a thread of its own; `look` is called once a second, `on_refusal` when somebody refuses."""

    def __init__(
        self, stack: LocalStack, *, look: Callable[[], None], on_refusal: Callable[[], None]
    ) -> None:
        self._stack = stack
        self._look = look
        self._on_refusal = on_refusal
        self._read_to: dict[Path, int] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self.memory: dict[str, int] = {}
        """Program → the most that any process of it was seen to take, in bytes."""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends the watching."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            self._weigh()
            if self._has_refused():
                self._on_refusal()
            self._look()

    def _weigh(self) -> None:
        for state in self._stack.states():
            program = next((each for each in MEMORY_BYTES_MAX if state.name.startswith(each)), state.name)
            try:
                resident = psutil.Process(self._stack.child(state.name).pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.memory[program] = max(self.memory.get(program, 0), resident)

    def _has_refused(self) -> bool:
        news = [self._news(log) for log in self._stack.home.logs.glob("*.log")]
        return any(_is_noticed(lines) for lines in news)

    def _news(self, log: Path) -> str:
        """What was added since the last look, but for a line that is not whole yet; all of it after a cut."""
        start = self._read_to.get(log, 0)
        with log.open("rb") as file:
            if file.seek(0, 2) < start:
                start = 0
            file.seek(start)
            news = file.read()
        whole = news.rfind(b"\n") + 1
        self._read_to[log] = start + whole
        return news[:whole].decode(errors="replace")


def _is_noticed(lines: str) -> bool:
    return any(sign in lines for sign in NOTICED)


def refusals(logs: Path) -> list[str]:
    """What programs said that refuse to go on, or that failed an assertion: they noticed that something is wrong."""
    return [
        f"{log.name}: {line.strip()[:500]}"
        for log in sorted(logs.glob("*.log*"))
        for line in log.read_text(errors="replace").splitlines()
        if _is_noticed(line)
    ]
