"""The programs side by side, behind one interface: measure a run over a workload, and say what was written.

A program that speaks Kafka is a command that reads our settings and runs until it is ended: another one, in whatever
language, is one more `KafkaProgram`.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
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


class Rules(Enum):
    """What a program does with a record, and with that what of it can be compared."""

    OURS = "the core itself"
    """Every byte is compared."""
    REWRITTEN = "our rules, written anew"
    """Its receipts are its own: outcomes and charges are compared."""
    SIMPLE = "one sum for each account"
    """A job that is no metering; that it did all of it is compared."""


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
    rules: Rules = Rules.OURS

    def run(self, workload: Workload, number: int) -> Run:
        settings = begin_run(workload, f"{self.name}-{number}")
        speed = run_and_watch(
            self.command,
            settings,
            records=workload.records,
            warm_up=workload.warm_up_records,
            python=self.python,
        )
        return Run(speed=speed, results=written(settings) if self.rules is Rules.OURS else charges(settings))

    def expected(self, folding: Mapping[str, Any]) -> Results | Charges:
        if self.rules is Rules.OURS:
            return Results(**folding["results"])
        if self.rules is Rules.SIMPLE:
            told = {"metered": folding["simple_records"]}
            return Charges(outcomes=told, credits=Decimal(folding["simple_credits"]))
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
_JAVA: Final = (
    *("-Xmx1g", "-cp", f"{_STREAMS}/classes:{_STREAMS}/dependency/*"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    *("StreamsPeer", str(SOURCE_TREE / "schemas")),
)
KAFKA_STREAMS: Final = KafkaProgram(
    name="kafka-streams",
    title="Kafka Streams (Java), exactly once, rules in Java",
    command=_JAVA,
    python="java",
    rules=Rules.REWRITTEN,
)
"""Compiled by Maven (tests/bench/README.md); left out where it is not."""
KAFKA_STREAMS_SIMPLE: Final = KafkaProgram(
    name="kafka-streams-simple",
    title="Kafka Streams (Java), exactly once, no rules but a sum",
    command=(*_JAVA, "simple"),
    python="java",
    rules=Rules.SIMPLE,
)
CORE_ALONE: Final = CoreAlone()
PEERS: Final[Sequence[Program]] = (
    *([QUIX] if Path(QUIX.python).exists() else []),
    *([KAFKA_STREAMS, KAFKA_STREAMS_SIMPLE] if _STREAMS.exists() else []),
)
PROGRAMS: Final[Sequence[Program]] = (WORKER, BARE_LOOP, *PEERS, PLAIN_FAUST, CORE_ALONE)
