"""Measures a program from outside, the same way for all: how far its committed outcomes have come, and when.

The input was published before. The measurement begins at the first look at which the warm-up was committed (so
neither start, join, nor the first batches count) and ends at the first look that saw everything committed.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

import psutil
from confluent_kafka import IsolationLevel
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # not in its list of exports

from pipeline.kafka import KafkaError, KafkaException, TopicPartition, admin, topic_name
from pipeline.settings import KafkaSettings, Settings, child_environment
from tests.bench.results import OUTCOMES
from tests.stack import wait_until

SOURCE_TREE: Final = Path(__file__).parents[2]
"""Where child processes find this package."""
LOOK_SECONDS: Final = 0.05
"""Half a per cent of a run of ten seconds."""
SETTLED_SECONDS: Final = 1.0
"""Everything is there when this long nothing came: transactions' markers are counted with the outcomes."""
RUN_SECONDS_MAX: Final = 300
RECORDS_A_SECOND_MIN: Final = 2000
"""Of a long run: it may take longer than the others by this."""
ASK_SECONDS_MAX: Final = 10
STOP_SECONDS_MAX: Final = 15


_NO_LEADER_YET: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


class Look(NamedTuple):
    """What was committed at one moment, and the processor time that the program had used."""

    at: float
    committed: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What one run of one program showed, after its warm-up."""

    events: int
    seconds: float
    cpu_seconds: float
    ended_at: float = 0.0
    """Of the monotonic clock."""

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_us_per_event(self) -> float:
        return self.cpu_seconds / self.events * 1_000_000


class ProgramFailedError(Exception):
    """A measured program ended, or did not finish."""


def run_and_watch(
    command: Sequence[str], settings: Settings, *, records: int, warm_up: int, python: str = sys.executable
) -> Speed:
    """Run a program until it has committed an outcome for every record, then end it."""
    looks = looks_at(command, settings, records=records, python=python)
    return speed_of(looks, records=records, warm_up=warm_up)


def looks_at(
    command: Sequence[str],
    settings: Settings,
    *,
    records: int,
    processes: int = 1,
    python: str = sys.executable,
) -> list[Look]:
    """As `run_and_watch`, by so many processes side by side: every look that was taken."""
    told = committed(settings.kafka)
    log = settings.home / "program.log"
    with log.open("wb") as output:
        running = [_started([python, *command], settings, output) for _ in range(processes)]
    try:
        return _watch(running, told, records)
    except ProgramFailedError as error:
        tail = log.read_text(errors="replace")[-2000:]
        raise ProgramFailedError(f"{settings.worker.app_id}: {error}\n{tail}") from error
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(command: Sequence[str], settings: Settings, output: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=child_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=SOURCE_TREE,
    )


def _is_answered(committed: Callable[[], int]) -> bool:
    try:
        committed()
    except KafkaException as error:
        if error.args[0].code() not in _NO_LEADER_YET:
            raise
        return False
    return True


def _watch(
    running: Sequence["subprocess.Popen[bytes]"], committed: Callable[[], int], records: int
) -> list[Look]:
    usages = [psutil.Process(process.pid) for process in running]
    looks: list[Look] = []
    seconds_max = max(RUN_SECONDS_MAX, records / RECORDS_A_SECOND_MIN)
    until = time.monotonic() + seconds_max
    changed_at = 0.0
    while True:
        times = [usage.cpu_times() for usage in usages]
        look = Look(time.monotonic(), committed(), sum(each.user + each.system for each in times))
        if not looks or look.committed != looks[-1].committed:
            changed_at = look.at
        looks.append(look)
        if look.committed >= records and look.at - changed_at > SETTLED_SECONDS:
            return looks
        if look.at > until:
            raise ProgramFailedError(f"{look.committed} of {records} outcomes after {seconds_max:.0f} s")
        time.sleep(LOOK_SECONDS)
        for process in running:
            if process.poll() is not None:
                raise ProgramFailedError(
                    f"ended with code {process.returncode} after {look.committed} of {records} outcomes"
                )


def committed(kafka: KafkaSettings) -> Callable[[], int]:
    """Asks how far the outcome topics can be read, all partitions at once: cheap enough to ask often."""
    client = admin(kafka)
    request = {
        TopicPartition(topic_name(kafka, topic), partition): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for topic in OUTCOMES
        for partition in range(kafka.partitions)
    }

    def ask() -> int:
        answers = client.list_offsets(
            request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ASK_SECONDS_MAX
        )
        return sum(answer.result(ASK_SECONDS_MAX).offset for answer in answers.values())

    wait_until("the fresh topics have leaders", lambda: _is_answered(ask), ASK_SECONDS_MAX)
    return ask


def speed_of(looks: Sequence[Look], *, records: int, warm_up: int, until: int | None = None) -> Speed:
    """From the end of the warm-up to the end, or to where so many records are done. Offsets count markers too, some in
    ten thousand: taken out evenly."""
    everything = looks[-1].committed
    end = everything if until is None else until * everything / records
    ended = next(look for look in looks if look.committed >= end)
    begun = next(look for look in looks if look.committed * records >= warm_up * everything)
    if (
        begun is ended
    ):  # Everything within one look: no more is known than that it came after the look before.
        begun = looks[looks.index(ended) - 1]
    return Speed(
        events=round((ended.committed - begun.committed) * records / everything),
        seconds=ended.at - begun.at,
        cpu_seconds=ended.cpu_seconds - begun.cpu_seconds,
        ended_at=ended.at,
    )
