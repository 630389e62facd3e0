"""Runs the bench of holds: one broker, and for each scenario and run fresh topics, a worker and the load on it."""

import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Final

from pipeline.client.commands import CommandKey, command_key, signed, unsigned_command
from pipeline.client.events import encode
from pipeline.demo.backdating import producers_dates
from pipeline.domain.instants import as_instant, format_instant
from pipeline.kafka import producer, topic_name
from pipeline.scheduler import serve
from pipeline.settings import KafkaSettings, Settings, child_environment
from schemas.topics import ACCOUNT_EVENTS
from tests.bench.holds.asking import ask
from tests.bench.holds.stages import STAGES, percentile, stages
from tests.bench.holds.timed_worker import STEPS_LOG
from tests.bench.measure import SOURCE_TREE, committed
from tests.bench.report import Line
from tests.bench.workload import deployment
from tests.stack import wait_until

OPEN_SECONDS_MAX: Final = 300
STOP_SECONDS_MAX: Final = 15
FLUSH_SECONDS_MAX: Final = 60
QUEUE_FULL_POLL_SECONDS: Final = 0.1
SLEEPER_DAYS: Final = 32
"""Ago they were opened: longer than any month, and shorter than the log is kept."""
PERCENTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load, and how long the 99th percentile of a round trip may be under it."""

    name: str
    title: str
    holds_per_second: float
    usage_per_second: float = 0
    sleepers: int = 0
    """Accounts that nobody uses, and whose periods all end at one instant while holds are asked for."""
    p99_ms_max: float


SCENARIOS: Final = (
    Scenario(name="quiet", title="200 holds/s", holds_per_second=200, p99_ms_max=50),
    Scenario(
        name="busy", title="1,000 holds/s beside 5,000 usage events/s", holds_per_second=1000,
        usage_per_second=5000, p99_ms_max=150,
    ),
    Scenario(
        name="storm", title="200 holds/s while 100,000 periods end", holds_per_second=200, sleepers=100_000,
        p99_ms_max=150,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldsPlan:
    """How much is measured."""

    runs: int = 3
    scenarios: Sequence[Scenario] = SCENARIOS
    seconds: float = 20
    warm_up_seconds: float = 3
    """Of them, at their beginning, and not measured."""
    accounts: int = 5000
    """That holds and usage are spread over evenly."""
    scale: float = 1.0
    """Of rates and sleepers."""
    is_judged: bool = True


HOLDS_QUICK: Final = HoldsPlan(
    runs=1, scenarios=SCENARIOS[1:], seconds=2, warm_up_seconds=0.5, accounts=50, scale=0.01, is_judged=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One scenario: in every run, milliseconds by stage, of each hold."""

    scenario: Scenario
    runs: Sequence[Mapping[str, Sequence[float]]]
    is_judged: bool

    def line(self, stage: str, named: str) -> Line:
        """A percentile of a stage, of every run."""
        is_goal = self.is_judged and (stage, named) == ("round_trip", "p99")
        return Line(
            name=f"{self.scenario.name}-{stage}-{named}",
            title=f"{self.scenario.title}: {STAGES[stage]}, {named}",
            unit="ms",
            values=tuple(percentile(each[stage], PERCENTILES[named]) for each in self.runs),
            limit=self.scenario.p99_ms_max if is_goal else None,
        )

    def lines(self) -> list[Line]:
        return [self.line(stage, named) for stage in STAGES for named in PERCENTILES]


def measure(servers: str, directory: Path, plan: HoldsPlan, say: Callable[[str], None]) -> list[Measured]:
    """Every scenario of the plan, one run after the other."""
    measured: list[Measured] = []
    for scenario in plan.scenarios:
        runs: list[dict[str, list[float]]] = []
        for number in range(1, plan.runs + 1):
            runs.append(_run(servers, directory, plan, scenario, number))
            p50, p99 = (percentile(runs[-1]["round_trip"], share) for share in (0.5, 0.99))
            say(f"{scenario.title}, run {number}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        measured.append(Measured(scenario=scenario, runs=runs, is_judged=plan.is_judged))
    return measured


def _run(
    servers: str, directory: Path, plan: HoldsPlan, scenario: Scenario, number: int
) -> dict[str, list[float]]:
    name = f"{scenario.name}-{number}"
    settings = deployment(directory, f"holds-{name}", KafkaSettings(bootstrap_servers=servers))
    accounts = [f"a{each}" for each in range(plan.accounts)]
    sleepers = [f"s{each}" for each in range(int(scenario.sleepers * plan.scale))]
    seconds = max(plan.seconds, plan.warm_up_seconds + _waking_seconds(settings, len(sleepers)))
    with ExitStack() as running:
        if sleepers:
            _publish_sleepers(settings, sleepers)
        running.enter_context(process(settings, "tests.bench.holds.timed_worker"))
        publish_accounts(settings, accounts, sleepers=len(sleepers))
        if sleepers:
            running.enter_context(_ticks(settings, after_seconds=plan.warm_up_seconds))
        if scenario.usage_per_second:
            rate = scenario.usage_per_second * plan.scale
            arguments = [str(each) for each in (rate, seconds + 1, plan.accounts)]
            running.enter_context(process(settings, "tests.bench.holds.usage_stream", *arguments))
        rate = scenario.holds_per_second * plan.scale
        asked = ask(settings, accounts, rate=rate, seconds=seconds, name=name)
    with (settings.home / STEPS_LOG).open() as steps:
        return stages(asked, steps, skip_seconds=plan.warm_up_seconds)


def publish_accounts(settings: Settings, accounts: list[str], *, sleepers: int = 0) -> None:
    """Open the accounts now; wait until they are open, and so many sleepers that were published before."""
    now = datetime.now(UTC)
    _publish(settings, _opened(settings, accounts, "enterprise", now), None)
    answers, expected = committed(settings.kafka), len(accounts) + sleepers
    wait_until("the accounts are open", lambda: answers() >= expected, OPEN_SECONDS_MAX)


def _publish_sleepers(settings: Settings, sleepers: list[str]) -> None:
    """Open them so long ago that the next tick ends their first period. Before any worker starts: it refuses an input
    log with producers' timestamps."""
    opened_at = datetime.now(UTC) - timedelta(days=SLEEPER_DAYS)
    with producers_dates(settings.kafka):
        _publish(settings, _opened(settings, sleepers, "starter", opened_at), opened_at)


def _opened(
    settings: Settings, accounts: list[str], plan: str, at: datetime
) -> Iterator[tuple[bytes | None, bytes]]:
    key = command_key(settings)
    assert key is not None, "a deployment without a command key"
    return (_open(each, plan, at, key) for each in accounts)


def _waking_seconds(settings: Settings, sleepers: int) -> float:
    """About how long ticks take to let the periods of so many accounts end; see `pipeline.scheduler`."""
    ticks = ceil(sleepers / settings.kafka.partitions / settings.rules.boundary_accounts_max)
    return ticks * settings.scheduler.tick_seconds


@contextmanager
def _ticks(settings: Settings, *, after_seconds: float) -> Generator[None, None, None]:
    """The scheduler, from then on: nothing moves the sleepers before its first tick."""
    stop = threading.Event()

    def tick() -> None:
        if not stop.wait(after_seconds):
            serve(settings, stop)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _open(account: str, plan: str, at: datetime, key: CommandKey) -> tuple[bytes | None, bytes]:
    event = unsigned_command(
        "open", account=account, command_id=f"open-{account}", source="/bench",
        time=format_instant(as_instant(at)), data={"plan": plan},
    )  # fmt: skip
    return encode(signed(event, key))


def _publish(settings: Settings, records: Iterator[tuple[bytes | None, bytes]], at: datetime | None) -> None:
    publisher, topic = producer(settings.kafka), topic_name(settings.kafka, ACCOUNT_EVENTS)
    timestamp = 0 if at is None else as_instant(at)
    for key, value in records:
        while True:
            try:
                publisher.produce(topic, value, key, timestamp=timestamp)
                break
            except BufferError:
                publisher.poll(QUEUE_FULL_POLL_SECONDS)
    assert publisher.flush(FLUSH_SECONDS_MAX) == 0, "the accounts could not be published"


@contextmanager
def process(settings: Settings, *module: str, **environment: str) -> Generator[None, None, None]:
    """`python -m module …` beside us, until the block ends."""
    with (settings.home / f"{module[0]}-{module[-1]}.log").open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=child_environment(settings, **environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=SOURCE_TREE,
        )
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
