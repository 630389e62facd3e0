"""Runs the bench of latency: one broker and one ClickHouse, and for each rate and run fresh topics and tables."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.client.events import encode, usage_event
from pipeline.client.origin import now_text
from pipeline.kafka import topic_name
from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from schemas.topics import METERED_RECORDS
from tests.bench.holds.asking import Asked, send
from tests.bench.holds.run import PERCENTILES, process, publish_accounts
from tests.bench.holds.stages import STAGES, Steps, noted, percentile, stages
from tests.bench.holds.timed_worker import STEPS_LOG
from tests.bench.holds.usage_stream import DATA
from tests.bench.latency.timed_sink import SINK_STEPS_LOG
from tests.bench.latency.watching import Balances, Stored
from tests.bench.report import Line
from tests.bench.workload import deployment
from tests.integration.sinking import sink_environment
from tests.stack import wait_until

SEEN_SECONDS_MAX: Final = 60
PROBES_PER_SECOND: Final = 200
"""Of the offered events, so many are followed one by one."""
JUDGED_RATE: Final = 5000
BALANCE_P99_MS_MAX: Final = 250
STORED_P99_MS_MAX: Final = 1000
WAYS: Final[Mapping[str, Mapping[str, str]]] = {
    "balance": {
        **{name: title for name, title in STAGES.items() if name != "round_trip"},
        "answer": "committed → balance read",
    },
    "stored": {
        "until_committed": "due → committed by the worker",
        "collect": "committed → the sink cuts its block",
        "plan": "the block's plan, a transaction",
        "insert": "planned → seen in ClickHouse",
    },
}
"""What is waited for → the stages of the way there, `acknowledged` apart."""
TITLES: Final = {"balance": "due to be sent → balance read", "stored": "due to be sent → row in ClickHouse"}
GOALS: Final = {"balance": BALANCE_P99_MS_MAX, "stored": STORED_P99_MS_MAX}
Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPlan:
    """How much is offered, and how often."""

    runs: int = 3
    rates: Sequence[int] = (1000, JUDGED_RATE, 10_000)
    seconds: float = 20
    warm_up_seconds: float = 3
    """Of them, at their beginning, and not measured."""
    accounts: int = 5000
    probes_per_second: int = PROBES_PER_SECOND
    is_judged: bool = True


LATENCY_QUICK: Final = LatencyPlan(
    runs=1, rates=(100,), seconds=2, warm_up_seconds=0.5, accounts=50, probes_per_second=20, is_judged=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRate:
    """One rate: in every run, for each way, milliseconds by stage of each probe."""

    rate: int
    runs: Sequence[Mapping[str, Times]]
    is_judged: bool

    def line(self, way: str, stage: str, named: str) -> Line:
        """A percentile of a stage, or of the `whole` way, of every run."""
        is_goal = self.is_judged and self.rate == JUDGED_RATE and (stage, named) == ("whole", "p99")
        title = TITLES[way] if stage == "whole" else WAYS[way][stage]
        return Line(
            name=f"{self.rate}-{way}-{stage}-{named}",
            title=f"{self.rate:,} events/s: {title}, {named}",
            unit="ms",
            values=tuple(percentile(each[way][stage], PERCENTILES[named]) for each in self.runs),
            limit=GOALS[way] if is_goal else None,
        )

    def lines(self) -> list[Line]:
        return [
            self.line(way, stage, named)
            for way, parts in WAYS.items()
            for stage in ("whole", *parts)
            for named in PERCENTILES
        ]


def measure(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    directory: Path,
    plan: LatencyPlan,
    say: Callable[[str], None],
) -> list[MeasuredRate]:
    """Every rate of the plan, one run after the other. Databases are named after `clickhouse.database`."""
    measured: list[MeasuredRate] = []
    for rate in plan.rates:
        runs: list[dict[str, Times]] = []
        for number in range(1, plan.runs + 1):
            settings = deployment(directory, f"latency-{rate}-{number}", kafka, clickhouse)
            runs.append(_run(settings, plan, rate))
            told = "; ".join(
                f"{way} p50 {percentile(runs[-1][way]['whole'], 0.5):.0f} ms, "
                f"p99 {percentile(runs[-1][way]['whole'], 0.99):.0f} ms"
                for way in WAYS
            )
            say(f"{rate:,} events/s, run {number}: {told}")
        measured.append(MeasuredRate(rate=rate, runs=runs, is_judged=plan.is_judged))
    return measured


def _run(settings: Settings, plan: LatencyPlan, rate: int) -> dict[str, Times]:
    accounts = [f"a{each}" for each in range(plan.accounts)]
    asked = Asked()
    with ExitStack() as running:
        running.enter_context(process(settings, "tests.bench.holds.timed_worker"))
        running.enter_context(
            process(settings, "tests.bench.latency.timed_sink", **sink_environment(settings))
        )
        publish_accounts(settings, accounts)
        balances, stored = Balances(settings), Stored(settings)
        balances.ready.wait(SEEN_SECONDS_MAX)
        beside = [str(each) for each in (rate - plan.probes_per_second, plan.seconds + 1, plan.accounts)]
        running.enter_context(process(settings, "tests.bench.holds.usage_stream", *beside))
        send(
            settings,
            _probes(accounts, int(plan.probes_per_second * plan.seconds)),
            plan.probes_per_second,
            asked,
        )
        wait_until("every probe is stored", lambda: all(map(stored.has, asked.kept)), SEEN_SECONDS_MAX)
        for watcher in (balances, stored):
            watcher.stopped.set()
            watcher.join()
    asked.answered = balances.seen({position: kept.account for position, kept in asked.kept.items()})
    assert len(asked.answered) == len(asked.kept), "expected every probe in a balance"
    return _taken_apart(settings, asked, stored, plan.warm_up_seconds)


def _probes(accounts: Sequence[str], count: int) -> list[tuple[bytes | None, bytes]]:
    at = now_text()
    return [
        encode(
            usage_event(
                "image_generation", account=accounts[number % len(accounts)], event_id=f"probe-{number}",
                source="/bench", time=at, data=DATA,
            )
        )
        for number in range(count)
    ]  # fmt: skip


def _taken_apart(settings: Settings, asked: Asked, stored: Stored, skip_seconds: float) -> dict[str, Times]:
    with (settings.home / STEPS_LOG).open() as steps:
        lines = list(steps)
    balance = stages(asked, lines, skip_seconds=skip_seconds)
    balance["whole"] = balance.pop("round_trip")
    with (settings.home / SINK_STEPS_LOG).open() as steps:
        sink = noted(steps)
    worker, first = noted(lines), min(each.due for each in asked.kept.values()) + skip_seconds
    topic = topic_name(settings.kafka, METERED_RECORDS)
    taken: dict[str, list[float]] = {name: [] for name in ("whole", *WAYS["stored"])}
    for (partition, offset), kept in asked.kept.items():
        if kept.due >= first:
            seen = stored.reached[partition].of(offset)
            committed = worker["committed", partition].of(offset)
            cut, planned = (
                _of(sink[f"{step}:{topic}", partition], kept.appended) for step in ("taken", "planned")
            )
            parts = (seen - kept.due, committed - kept.due, cut - committed, planned - cut, seen - planned)
            for name, seconds in zip(taken, parts, strict=True):
                taken[name].append(seconds * 1000)
    return {"balance": balance, "stored": taken}


def _of(steps: Steps, appended: float) -> float:
    """When the block was at this step that took what was appended then."""
    return steps.of(round(appended * 1000))
