"""One run: a stack of its own, load and faults side by side, the drain, then everything held against the raw log.

Whatever happens, a run ends with a verdict: who refuses to go on, or fails an assertion, has noticed that something is
wrong, and ends it at once; what could not be done is a difference like any other.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from pipeline.chaos.lanes import Lanes
from pipeline.chaos.plan import ChaosPlan, lanes
from pipeline.chaos.producers import Producers, log_differences
from pipeline.chaos.progress import Progress
from pipeline.chaos.report import Audited, ChaosReport, quantiles
from pipeline.chaos.strikes import Striker, Struck, recovery
from pipeline.chaos.watch import MEMORY_BYTES_MAX, Watch, refusals
from pipeline.client.commands import command_key
from pipeline.crash_points import PROGRAMS
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate
from pipeline.local.stack import LocalStack, StackOptions
from pipeline.reconcile import Report, reconcile
from pipeline.reconcile.marks import newest_marks
from pipeline.reconcile.topics import Log
from pipeline.settings import CRASH_POINTS, Settings
from schemas.topics import ACCOUNT_EVENTS

PUBLISH_RECORDS: Final = 50
"""Published between two looks at the clock."""
TURN_SECONDS_MAX: Final = 1.0
"""After which so many are published anyhow: most phases are only reached by what has something to do."""
WAIT_SECONDS: Final = 0.05
STALL_SECONDS_MAX: Final = 120
"""At the end: so long without any progress, and what is left is called unfinished. Twice the worker's watchdog."""
DRAIN_POLL_SECONDS: Final = 0.2
SINK_WAIT_SECONDS: Final = 300
STANDSTILL_SECONDS_MAX: Final = 240
"""Of a partition that has records: faults of several lanes may meet, so it is long; what never comes back is longer."""
TICK_SECONDS: Final = 0.5
PLANS: Final = ("free", "starter", "pro", "prepaid")
CHANGE_SHARE_MAX: Final = 0.01
CHANGES_AN_ACCOUNT_MAX: Final = 2
"""Changes of terms, of which every twentieth closes the account for good."""
DECLINED_PERCENT: Final = 20
UNANSWERED_PERCENT: Final = 20
SNAPSHOT_SECONDS: Final = 5
"""Between two writings of the report."""
TOLD_SECONDS: Final = 30
"""Between two words on how far it is."""
Keep: TypeAlias = Callable[[ChaosReport], None]


class _Run:
    """What the parts of one run share."""

    def __init__(
        self, plan: ChaosPlan, stack: LocalStack, orders: Path, say: Callable[[str], None], keep: Keep
    ) -> None:
        self.plan = plan
        self.stack = stack
        self.report = ChaosReport(plan=plan)
        self.producers = Producers(stack.settings, plan.seed)
        self.progress = Progress(stack.settings)
        self.striker = Striker(stack, plan, orders, self.progress)
        self.lanes = Lanes(lanes(plan), self.striker, say)
        self.watch = Watch(stack, look=self._look, on_refusal=self.lanes.ended.set)
        self.say = say
        self._keep = keep
        self._began = time.monotonic()
        self._kept_at = self._told_at = self._began
        self.stage = "faults"

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._kept_at > SNAPSHOT_SECONDS:
            self._kept_at = now
            self._keep(self.snapshot())
        if now - self._told_at > TOLD_SECONDS and self.stage == "faults":
            self._told_at = now
            share = self.lanes.share()
            eta = (now - self._began) * (1 - share) / share if share else 0.0
            self.say(
                f"  {self.lanes.done}/{self.lanes.planned} faults, {len(self.producers.sent)} records, "
                f"{(now - self._began) / 60:.0f} min, about {eta / 60:.0f} min of faults to go"
            )

    def snapshot(self) -> ChaosReport:
        """What is known so far; the report of a run that ends here."""
        report = self.report
        report.stage = self.stage
        report.seconds["run"] = round(time.monotonic() - self._began, 1)
        report.published, report.resent = len(self.producers.sent), self.producers.resent
        report.restarts = {child.name: child.restarts for child in self.stack.states()}
        report.memory_max_bytes = dict(self.watch.memory)
        _describe_faults(report, list(self.striker.struck), self.progress)
        return report


def run_chaos(
    plan: ChaosPlan,
    home: Path,
    *,
    base_ms: int,
    audit: Callable[[Settings], Audited],
    say: Callable[[str], None],
    keep: Keep = lambda _: None,
) -> ChaosReport:
    """Run it all in the empty directory `home`. `base_ms` is the producers' clock at the start, now in truth.

    `keep` is given the report as it grows, so that a run that is interrupted has said what it saw.
    """
    orders = home / "orders"
    orders.mkdir(parents=True)
    with LocalStack(home, _options(plan, orders), say=say) as stack:
        run = _Run(plan, stack, orders, say, keep)
        run.progress.start()
        run.watch.start()
        try:
            _run(run, base_ms, audit)
        except Exception as error:  # noqa: BLE001  (a harness without a verdict has none of its guards)
            run.report.differ(f"the run could not be finished ({run.stage}): {error!r}")
        finally:
            run.striker.release()
            run.watch.close()
            run.progress.close()
        _judge_programs(run)
        run.stage = "finished"
        report = run.snapshot()
    keep(report)
    return report


def _options(plan: ChaosPlan, orders: Path) -> StackOptions:
    payments = {
        "simulated_decline_percent": DECLINED_PERCENT,
        "simulated_unanswered_percent": UNANSWERED_PERCENT,
    }
    return StackOptions(
        workers=plan.workers,
        sinks=plan.sinks,
        gateways=0,
        notifiers=0,
        kafka_port=None,
        clickhouse_port=None,
        native_port=None,
        settings={
            "kafka": {"partitions": plan.partitions},
            "scheduler": {"tick_seconds": TICK_SECONDS},
            "worker": {"identity_hour_seconds": plan.hour_seconds},
            "payments": payments,
        },
        environment={CRASH_POINTS: str(orders.resolve())},
    )


def _run(run: _Run, base_ms: int, audit: Callable[[Settings], Audited]) -> None:
    with run.report.timed("faults"):
        _strike_under_load(run, _load(run.plan, run.stack.settings, base_ms))
    run.report.standstill = {
        program: round(run.progress.longest_standstill(program, time.monotonic()), 1)
        for program in ("worker", "sink")
    }
    if run.lanes.ended.is_set():
        run.report.differ(
            f"ended after {run.lanes.done} of {run.lanes.planned} faults, with the verdict below"
        )
        return
    run.stage = "drain"
    if _finish(run):
        _compare(run, audit)


def _judge_programs(run: _Run) -> None:
    for refusal in refusals(run.stack.home.logs):
        run.report.differ(refusal)
    for missed in run.lanes.missed:
        run.report.differ(f"not struck: {missed}")
    for program, limit in MEMORY_BYTES_MAX.items():
        taken = run.watch.memory.get(program, 0)
        if taken > limit:
            run.report.differ(f"{program}: expected at most {limit} bytes of memory, saw {taken}")
    for program, seconds in run.report.standstill.items():
        if seconds > STANDSTILL_SECONDS_MAX:
            run.report.differ(
                f"{program}: expected a partition to stand for {STANDSTILL_SECONDS_MAX} s at most, it stood {seconds} s"
            )


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
        change_share=min(CHANGE_SHARE_MAX, CHANGES_AN_ACCOUNT_MAX * plan.accounts / plan.events),
        lie_share=0.01,
        late_share=0.005,
        topups=True,
    )
    return generate(load, CommandKey(key_id=key.key_id, secret=key.secret))


def _strike_under_load(run: _Run, load: Iterator[LoadRecord]) -> None:
    """The programs' faults side by side, and the load spread over them."""
    producers, ended = run.producers, run.lanes.ended
    with ThreadPoolExecutor(len(PROGRAMS), thread_name_prefix="strikes") as pool:
        strikes = run.lanes.strike(pool, seconds_min=run.plan.duration_seconds)
        try:
            published = 0
            while not ended.is_set() and (batch := list(islice(load, PUBLISH_RECORDS))):
                producers.publish(batch)
                published += len(batch)
                _wait_for_turn(run, strikes, published)
            while not _are_over(strikes):
                producers.publish([])
                producers.wait(WAIT_SECONDS)
        except BaseException:
            ended.set()
            raise
        for each in strikes:
            each.result()
    if not ended.is_set():
        producers.finish()


def _wait_for_turn(run: _Run, strikes: list[Future[None]], published: int) -> None:
    until = time.monotonic() + TURN_SECONDS_MAX
    while (
        time.monotonic() < until
        and not run.lanes.ended.is_set()
        and not _are_over(strikes)
        and published > run.plan.events * run.lanes.share()
    ):
        run.producers.wait(WAIT_SECONDS)


def _are_over(strikes: list[Future[None]]) -> bool:
    return all(each.done() for each in strikes)


def _finish(run: _Run) -> bool:
    """Until workers have answered all that is in the log, and nobody adds to it any more. Whether they have."""
    stack, report = run.stack, run.report
    with report.timed("drain"):
        drained = _drain(report, stack.settings, run.progress)
        for state in stack.states():
            if state.name.startswith(("scheduler-", "late-lane-", "payments-")):
                stack.keep_down(state.name)
                stack.child(state.name).stop()
        drained = drained and _drain(report, stack.settings, run.progress)
    run.say(f"{'drained' if drained else 'not drained'} in {report.seconds['drain']} s")
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


def _compare(run: _Run, audit: Callable[[Settings], Audited]) -> None:
    report, settings = run.report, run.stack.settings
    run.stage = "audit"
    run.say("auditing the raw log")
    with report.timed("audit"), ThreadPoolExecutor(1, thread_name_prefix="audit") as pool:
        auditing = pool.submit(audit, settings)
        with report.timed("reconcile"):
            reconciled = reconcile(settings, sink_wait_seconds=SINK_WAIT_SECONDS, progress=run.say)
        audited = auditing.result()
    with report.timed("log"):
        missing, report.arrived_twice, unknown = log_differences(settings, run.producers.sent)
    _take_marks(report, settings)
    report.records, report.accounts = reconciled.records, reconciled.accounts
    report.outcomes, report.statements = reconciled.outcomes, audited.statements
    report.credits_charged = Decimal(reconciled.charged_micros).scaleb(-6)
    _take_differences(report, reconciled, audited)
    if missing:
        report.differ(f"{missing} records that were acknowledged are not in the log", missing)
    if unknown:
        report.differ(f"{unknown} records of the log were sent by nobody", unknown)
    if report.arrived_twice > run.producers.resent:
        report.differ(
            f"{report.arrived_twice} records are in the log twice, {run.producers.resent} were sent again"
        )


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


def _take_marks(report: ChaosReport, settings: Settings) -> None:
    """What the running reconciler says at the end, which was there all the time."""
    with closing(Log(settings.kafka)) as log:
        marks = newest_marks(log, settings)
    report.compared = sum(mark.compared_up_to for mark in marks)
    for mark in marks:
        if mark.differences:
            first = mark.differences[0].model_dump(mode="json")
            what = f"the running reconciler names {mark.differences_total} in partition {mark.partition}, first {first}"
            report.differ(what, mark.differences_total)


def _without_ticks(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in outcomes.items() if name != "tick"}


def _describe_faults(report: ChaosReport, struck: list[Struck], progress: Progress) -> None:
    by_kind: dict[str, list[float]] = {}
    report.by_phase, report.struck, report.recovery = {}, [], {}
    for each in struck:
        took = recovery(progress, each)
        phase = each.fault.phase.value if each.fault else "anywhere"
        kinds = report.by_phase.setdefault(phase, {})
        kinds[each.kind.value] = kinds.get(each.kind.value, 0) + 1
        if took is not None:
            by_kind.setdefault(each.kind.value, []).append(took)
        report.struck.append(_as_json(each, phase, took))
    report.zombies = sum(bool(each.went_elsewhere) for each in struck)
    everything = [took for times in by_kind.values() for took in times]
    for kind, times in sorted({**by_kind, "all": everything}.items()):
        report.recovery[kind] = quantiles(times)


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
