"""The programs side by side, behind one interface: measure a run over a workload, and say what was written.

A program that speaks Kafka is a command that reads our settings and runs until it is ended: another one, in whatever
language, is one more `KafkaProgram`.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from pipeline.settings import child_environment
from tests.bench.measure import RUN_SECONDS_MAX, SOURCE_TREE, ProgramFailedError, Speed, run_and_watch
from tests.bench.results import Charges, Results, charges, written
from tests.bench.workload import Workload, begin_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one program."""

    speed: Speed
    results: Results | Charges


class Program(Protocol):
    """Something whose speed is measured."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def is_slow(self) -> bool:
        """Whether it gets the small input: rates are compared, and nobody waits for ten minutes."""
        ...

    def run(self, workload: Workload, number: int) -> Run: ...
    def expected(self, folding: Mapping[str, Any]) -> Results | Charges:
        """What it must have written, by the core's own word: `core_alone.Folding`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaProgram:
    """A process between the input topic and the output topics."""

    name: str
    title: str
    command: Sequence[str]
    """Python's arguments."""
    is_slow: bool = False
    python: str = sys.executable
    """The interpreter, or another program that takes `command`."""
    has_own_core: bool = False
    """Whether its rules are written anew: then the bytes of its receipts are its own, and charges are compared."""

    def run(self, workload: Workload, number: int) -> Run:
        settings = begin_run(workload, f"{self.name}-{number}")
        speed = run_and_watch(
            self.command,
            settings,
            records=workload.records,
            warm_up=workload.warm_up_records,
            python=self.python,
        )
        return Run(speed=speed, results=charges(settings) if self.has_own_core else written(settings))

    def expected(self, folding: Mapping[str, Any]) -> Results | Charges:
        if not self.has_own_core:
            return Results(**folding["results"])
        return Charges(outcomes=folding["outcomes"], credits=Decimal(folding["credits"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreAlone:
    """The core over records in memory; see `tests.bench.peers.core_alone`."""

    name: str = "core-alone"
    title: str = "the core alone, records in memory, no Kafka"
    is_slow: bool = False

    def run(self, workload: Workload, number: int) -> Run:
        folding = self.fold(workload, f"{self.name}-{number}")
        speed = Speed(
            events=folding["records"], seconds=folding["seconds"], cpu_seconds=folding["cpu_seconds"]
        )
        return Run(speed=speed, results=self.expected(folding))

    def expected(self, folding: Mapping[str, Any]) -> Results:
        return Results(**folding["results"])

    def fold(self, workload: Workload, app_id: str) -> dict[str, Any]:
        """`Folding`, as the process told it."""
        command = [sys.executable, "-m", "tests.bench.peers.core_alone", str(workload.warm_up_records)]
        told = subprocess.run(
            command,
            env=child_environment(workload.settings(app_id)),
            cwd=SOURCE_TREE,
            capture_output=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        if told.returncode != 0:
            raise ProgramFailedError(f"{self.name} ended with code {told.returncode}: {told.stderr.decode()}")
        folding: dict[str, Any] = orjson.loads(told.stdout)
        return folding


WORKER: Final = KafkaProgram(
    name="worker",
    title="creditstream worker: Faust, our transport, exactly once",
    command=("-m", "pipeline", "worker"),
)
BARE_LOOP: Final = KafkaProgram(
    name="bare-loop",
    title="bare confluent-kafka loop, exactly once",
    command=("-m", "tests.bench.peers.bare_loop"),
)
PLAIN_FAUST: Final = KafkaProgram(
    name="plain-faust",
    title="plain Faust agent, at least once",
    command=("-m", "tests.bench.peers.plain_faust", "worker", "--without-web", "-l", "warning"),
    is_slow=True,
)
QUIX: Final = KafkaProgram(
    name="quix",
    title="Quix Streams, exactly once",
    command=("-m", "tests.bench.peers.quix"),
    python=str(SOURCE_TREE / ".venv-peers" / "bin" / "python"),
)
"""In an environment of its own, which `deploy/lock/peers.txt` makes; left out where there is none."""
_STREAMS: Final = SOURCE_TREE / "tests" / "bench" / "peers" / "kafka_streams" / "target"
KAFKA_STREAMS: Final = KafkaProgram(
    name="kafka-streams",
    title="Kafka Streams (Java), exactly once, rules in Java",
    command=(
        *("-Xmx1g", "-cp", f"{_STREAMS}/classes:{_STREAMS}/dependency/*"),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        *("StreamsPeer", str(SOURCE_TREE / "schemas")),
    ),
    python="java",
    has_own_core=True,
)
"""Compiled by Maven (tests/bench/README.md); left out where it is not."""
CORE_ALONE: Final = CoreAlone()
PEERS: Final[Sequence[Program]] = (
    *([QUIX] if Path(QUIX.python).exists() else []),
    *([KAFKA_STREAMS] if _STREAMS.exists() else []),
)
PROGRAMS: Final[Sequence[Program]] = (WORKER, BARE_LOOP, *PEERS, PLAIN_FAUST, CORE_ALONE)
