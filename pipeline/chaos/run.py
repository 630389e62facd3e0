"""One run: a stack of its own, load and faults side by side, the drain, then everything held against the raw log."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from pipeline.chaos.plan import ChaosPlan, faults
from pipeline.chaos.producers import Producers, log_differences
from pipeline.chaos.progress import Progress
from pipeline.chaos.strikes import Striker, Struck, recovery
from pipeline.client.commands import command_key
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate
from pipeline.local.stack import LocalStack, StackOptions
from pipeline.reconcile import Report, reconcile
from pipeline.reconcile.topics import Log
from pipeline.settings import CRASH_POINTS, Settings
from schemas.topics import ACCOUNT_EVENTS

PUBLISH_RECORDS: Final = 250
"""Published between two looks at the clock."""
SECONDS_A_FAULT: Final = 6
"""What a fault is thought to take until some were done: the load is spread over the faults."""
FAULTS_KNOWN: Final = 5
WAIT_SECONDS: Final = 0.05
STALL_SECONDS_MAX: Final = 120
"""At the end: so long without any progress, and what is left is called unfinished. Twice the worker's watchdog."""
DRAIN_POLL_SECONDS: Final = 0.2
SINK_WAIT_SECONDS: Final = 300
TICK_SECONDS: Final = 0.5
LISTED_MAX: Final = 50
"""Differences that are spelled out; all are counted."""
NOTICED: Final = ("worker ends with code 4", "worker ends with code 6", "SinkRefusedError:", "AssertionError")
"""Signs in the logs; what broken connections and fences bring is none of them."""
PLANS: Final = ("free", "starter", "pro", "prepaid")


class Audited(Protocol):
    """What an auditor of the raw log has found."""

    outcomes: Counter[str]
    charged: Decimal
    statements: int
    differences: list[str]
    differences_total: int


@dataclass(slots=True, kw_only=True)
class ChaosReport:
    """What a run ends with."""

    plan: ChaosPlan
    struck: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    by_phase: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Faults that counted: phase → kind → how many; `anywhere` are those that only made partitions move."""
    zombies: int = 0
    """Paused processes that woke up after their partition had gone on elsewhere."""
    published: int = 0
    resent: int = 0
    """After the producer's own timeout."""
    arrived_twice: int = 0
    """Of those that were sent again, both of which are in the log."""
    records: int = 0
    accounts: int = 0
    statements: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])
    credits_charged: Decimal = Decimal(0)
    restarts: dict[str, int] = field(default_factory=dict[str, int])
    recovery: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Kind → `count`, `p50`, `p99`, `max`: seconds from the strike until the struck partitions went on."""
    standstill: dict[str, float] = field(default_factory=dict[str, float])
    """Program → the longest time in seconds in which a partition did not go on."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    differences: list[str] = field(default_factory=list[str])
    differences_total: int = 0

    @property
    def equal(self) -> bool:
        """Whether nothing differs and nothing that was planned is left undone."""
        return self.differences_total == 0

    def differ(self, what: str, count: int = 1) -> None:
        """Count so many differences, and spell this one out."""
        self.differences_total += count
        if len(self.differences) < LISTED_MAX:
            self.differences.append(what)

    @contextmanager
    def timed(self, name: str) -> Generator[None, None, None]:
        """Note how long a part of the run took."""
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


def run_chaos(
    plan: ChaosPlan,
    home: Path,
    *,
    base_ms: int,
    audit: Callable[[Settings], Audited],
    say: Callable[[str], None],
) -> ChaosReport:
    """Run it all in the empty directory `home`. `base_ms` is the producers' clock at the start, now in truth."""
    report, orders = ChaosReport(plan=plan), home / "orders"
    orders.mkdir(parents=True)
    options = StackOptions(
        workers=plan.workers,
        sinks=plan.sinks,
        gateways=0,
        payments=0,
        reconcilers=0,
        notifiers=0,
        kafka_port=None,
        clickhouse_port=None,
        native_port=None,
        settings={"kafka": {"partitions": plan.partitions}, "scheduler": {"tick_seconds": TICK_SECONDS}},
        environment={CRASH_POINTS: str(orders.resolve())},
    )
    with LocalStack(home, options, say=say) as stack:
        progress = Progress(stack.settings)
        progress.start()
        striker = Striker(stack, plan, orders, progress)
        try:
            producers = Producers(stack.settings, plan.seed)
            with report.timed("faults"):
                _strike_under_load(plan, striker, producers, _load(plan, stack.settings, base_ms), say)
            faults_end = time.monotonic()
            drained = _finish(report, stack, progress, say)
        finally:
            striker.release()
            progress.close()
        _describe_faults(report, striker, progress, faults_end)
        report.published, report.resent = len(producers.sent), producers.resent
        report.restarts = {child.name: child.restarts for child in stack.states()}
        _refusals(report, stack.home.logs)
        if drained:
            _compare(report, stack.settings, producers, audit, say)
    return report


def _load(plan: ChaosPlan, settings: Settings, base_ms: int) -> Iterator[LoadRecord]:
    key = command_key(settings)
    assert key is not None, "a local stack has a command key"
    load = LoadPlan(
        seed=plan.seed,
        events=plan.events,
        accounts=plan.accounts,
        base_ms=base_ms,
        plans=PLANS,
        dry_share=0.1,
        hold_share=0.01,
        change_share=0.002,
        lie_share=0.01,
    )
    return generate(load, CommandKey(key_id=key.key_id, secret=key.secret))


def _strike_under_load(
    plan: ChaosPlan,
    striker: Striker,
    producers: Producers,
    load: Iterator[LoadRecord],
    say: Callable[[str], None],
) -> None:
    """The faults one after the other, and the load spread over them."""
    planned, began = faults(plan), time.monotonic()
    done: list[float] = []

    def strike_all() -> None:
        for number, fault in enumerate(planned):
            time.sleep(max(0.0, began + plan.duration_seconds * number / len(planned) - time.monotonic()))
            if not striker.strike(fault):
                return  # A program that is not there any more will not be there for the next one.
            done.append(time.monotonic())
            say(f"  {len(done)}/{len(planned)}  {done[-1] - began:.0f} s  {fault.kind} in {fault.phase}")

    with ThreadPoolExecutor(1, thread_name_prefix="strikes") as pool:
        strikes = pool.submit(strike_all)
        published = 0
        while batch := list(islice(load, PUBLISH_RECORDS)):
            producers.publish(batch)
            published += len(batch)
            _wait_for_turn(plan, producers, strikes, _Pace(began, done, len(planned)), published)
        while not strikes.done():
            producers.publish([])
            producers.wait(WAIT_SECONDS)
        strikes.result()
    producers.finish()


@dataclass(frozen=True, slots=True)
class _Pace:
    began: float
    done: list[float]
    planned: int

    def share(self) -> float:
        """How much of all faults is done by now, the one that is under way by its expected part."""
        count = len(self.done)
        known = count >= FAULTS_KNOWN
        each = (self.done[-1] - self.began) / count if known else SECONDS_A_FAULT
        last = self.done[-1] if self.done else self.began
        # Ever slower and never at an end: what takes long must still have something to do.
        running = 1 - 0.5 ** ((time.monotonic() - last) / each)
        return float((count + running) / self.planned)


def _wait_for_turn(
    plan: ChaosPlan, producers: Producers, strikes: Future[None], pace: _Pace, published: int
) -> None:
    while not strikes.done() and published > plan.events * pace.share():
        producers.wait(WAIT_SECONDS)


def _finish(report: ChaosReport, stack: LocalStack, progress: Progress, say: Callable[[str], None]) -> bool:
    """Until workers have answered all that is in the log, and nobody adds to it any more. Whether they have."""
    with report.timed("drain"):
        drained = _drain(report, stack.settings, progress)
        for state in stack.states():
            if state.name.startswith(("scheduler-", "late-lane-")):
                stack.keep_down(state.name)
                stack.child(state.name).stop()
        drained = drained and _drain(report, stack.settings, progress)
    say(f"{'drained' if drained else 'not drained'} in {report.seconds['drain']} s")
    return drained


def _drain(report: ChaosReport, settings: Settings, progress: Progress) -> bool:
    log = Log(settings.kafka)
    ends = {each: log.bounds(ACCOUNT_EVENTS, each)[1] for each in range(settings.kafka.partitions)}
    log.close()
    stood_since, stands = time.monotonic(), dict.fromkeys(ends, -1)
    while behind := {each: end for each, end in ends.items() if progress.position(each) < end}:
        now = {each: progress.position(each) for each in behind}
        if any(stands[each] != position for each, position in now.items()):
            stands.update(now)
            stood_since = time.monotonic()
        if time.monotonic() - stood_since > STALL_SECONDS_MAX:
            for each, end in behind.items():
                report.differ(
                    f"partition {each}: stands at {now[each]} of {end} for {STALL_SECONDS_MAX} s",
                    end - now[each],
                )
            return False
        time.sleep(DRAIN_POLL_SECONDS)
    return True


def _refusals(report: ChaosReport, logs: Path) -> None:
    """A program that refuses to go on, or that fails an assertion, has noticed that something is wrong."""
    for log in sorted(logs.glob("*.log*")):
        with log.open(errors="replace") as lines:
            for line in lines:
                if any(sign in line for sign in NOTICED):
                    report.differ(f"{log.name}: {line.strip()[:500]}")


def _compare(
    report: ChaosReport,
    settings: Settings,
    producers: Producers,
    audit: Callable[[Settings], Audited],
    say: Callable[[str], None],
) -> None:
    with report.timed("reconcile"):
        reconciled = reconcile(settings, sink_wait_seconds=SINK_WAIT_SECONDS, progress=say)
    say("auditing the raw log")
    with report.timed("audit"):
        audited = audit(settings)
        missing, report.arrived_twice, unknown = log_differences(settings, producers.sent)
    report.records, report.accounts = reconciled.records, reconciled.accounts
    report.outcomes, report.statements = reconciled.outcomes, audited.statements
    report.credits_charged = Decimal(reconciled.charged_micros).scaleb(-6)
    _take_differences(report, reconciled, audited)
    if missing:
        report.differ(f"{missing} records that were acknowledged are not in the log", missing)
    if unknown:
        report.differ(f"{unknown} records of the log were sent by nobody", unknown)
    if report.arrived_twice > report.resent:
        report.differ(f"{report.arrived_twice} records are in the log twice, {report.resent} were sent again")


def _take_differences(report: ChaosReport, reconciled: Report, audited: Audited) -> None:
    for kind, count in reconciled.counts.items():
        first = next(each for each in reconciled.differences if each.kind == kind)
        report.differ(f"reconcile: {kind} {count} times, first {asdict(first)}", count)
    for line in audited.differences:
        report.differ(f"audit: {line}")
    report.differences_total += audited.differences_total - len(audited.differences)
    for name, expected, found in (
        ("credits charged", audited.charged, report.credits_charged),
        ("outcomes", _without_ticks(audited.outcomes), _without_ticks(reconciled.outcomes)),
    ):
        if expected != found:
            report.differ(f"{name}: the auditor expected {expected}, reconcile found {found}")


def _without_ticks(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in outcomes.items() if name != "tick"}


def _describe_faults(report: ChaosReport, striker: Striker, progress: Progress, end: float) -> None:
    by_kind: dict[str, list[float]] = {}
    for struck in striker.struck:
        took = recovery(progress, struck)
        phase = struck.fault.phase.value if struck.fault else "anywhere"
        kinds = report.by_phase.setdefault(phase, {})
        kinds[struck.kind.value] = kinds.get(struck.kind.value, 0) + 1
        if took is not None:
            by_kind.setdefault(struck.kind.value, []).append(took)
        report.zombies += bool(struck.went_elsewhere)
        report.struck.append(_as_json(struck, phase, took))
    everything = [took for times in by_kind.values() for took in times]
    for kind, times in sorted({**by_kind, "all": everything}.items()):
        report.recovery[kind] = _quantiles(times)
    report.standstill = {
        program: round(progress.longest_standstill(program, end), 1) for program in ("worker", "sink")
    }
    for missed in striker.missed:
        report.differ(f"not struck: {missed}")


def _as_json(struck: Struck, phase: str, took: float | None) -> dict[str, Any]:
    return {
        "phase": phase,
        "kind": struck.kind,
        "process": struck.process,
        "pid": struck.pid,
        "partition": struck.partition,
        "went_elsewhere": struck.went_elsewhere,
        "recovered_seconds": None if took is None else round(took, 2),
    }


def _quantiles(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    if not ordered:
        return {"count": 0}
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {"count": len(ordered), **{name: round(ordered[place], 2) for name, place in places.items()}}
