"""The fault run: a load through real workers and sinks while they are killed and stopped, then every account checked.

    python -m tests.e2e.fault_run --events 500000 --accounts 5000 --seed 1 --workers 2 --sinks 2 --kills 5

Prints one JSON object. Exit code 6 when anything differs.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from pipeline import kafka as clients
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate, read_records, write_records
from pipeline.local.stack import LocalStack, StackOptions
from pipeline.reconcile import Report, reconcile
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas import topics
from tests.e2e.audit import Audited, audit_file, audit_log
from tests.e2e.faults import Injector, schedule

FINDINGS_EXIT_CODE = 6
PUBLISH_RECORDS = 250
"""Published between two looks at the clock."""
DRAIN_SECONDS_MAX = 300
TAIL_OFFSETS = 200
PLANS = ("free", "starter", "pro", "prepaid")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    events: int
    accounts: int
    seed: int
    workers: int = 2
    sinks: int = 2
    kills: int = 5
    """Of each worker, each sink and the scheduler."""
    seconds: float = 120
    """How long publishing takes: the load is spread over it, and so are the faults."""
    pause_seconds: float = 10
    """How long one worker and one sink stand still: longer than their session."""
    partitions: int = 4
    dry_share: float = 0.05
    """Of accounts that are given too little for what they will use."""
    hold_share: float = 0.01
    """Of events that are preceded by a hold and what becomes of it."""
    change_share: float = 0.001
    """Of events that are preceded by a change of plan or a closure."""


def fault_run(plan: FaultPlan, home: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run it all; what is returned is what is printed."""
    options = StackOptions(
        workers=plan.workers,
        sinks=plan.sinks,
        kafka_port=None,
        clickhouse_port=None,
        native_port=None,
        gateways=0,
        late_lanes=0,  # The audit of the input file alone knows of no second chance.
        settings={"kafka": {"partitions": plan.partitions}},
    )
    with LocalStack(home, options, say=say) as stack:
        load = LoadPlan(
            seed=plan.seed,
            events=plan.events,
            accounts=plan.accounts,
            base_ms=int(time.time() * 1000),
            plans=PLANS,
            dry_share=plan.dry_share,
            hold_share=plan.hold_share,
            change_share=plan.change_share,
        )
        input_file = home / "input.ndjson"
        with input_file.open("wb") as file:
            published = write_records(generate(load, _key(stack.settings)), file)
        say(f"{published} records in {input_file}")
        return _run(plan, stack, load, input_file, say)


def _run(
    plan: FaultPlan, stack: LocalStack, load: LoadPlan, input_file: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    times: dict[str, float] = {}
    injector = Injector(stack, _faults(plan))
    try:
        with _timed(times, "publish"), input_file.open("rb") as file:
            published = _publish(stack.settings, read_records(file), plan, injector)
            injector.finish()
    finally:
        injector.release()
    say(f"published, {len(injector.suffered)} faults")
    with _timed(times, "drain"):
        _wait_for_drain(stack.settings)
    say("drained")
    with _timed(times, "reconcile"):
        report = reconcile(stack.settings, sink_wait_seconds=DRAIN_SECONDS_MAX, progress=say)
    with _timed(times, "audit"):
        from_log = audit_log(stack.settings)
        with input_file.open("rb") as file:
            from_file = audit_file(read_records(file), stack.settings, load.base_ms)
    restarts = {child.name: child.restarts for child in stack.states()}
    return _summary(plan, published, injector, times, restarts, report, from_log, from_file)


class _timed:  # noqa: N801  (reads as a statement)
    """Notes how long a block took."""

    def __init__(self, times: dict[str, float], name: str) -> None:
        self.times, self.name = times, name

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.times[self.name] = round(time.monotonic() - self.began, 2)


def _key(settings: Settings) -> CommandKey:
    secret = settings.command_keys[settings.command_key_id].get_secret_value()
    return CommandKey(key_id=settings.command_key_id, secret=bytes.fromhex(secret))


def _faults(plan: FaultPlan) -> list[Any]:
    workers = [f"worker-{number}" for number in range(1, plan.workers + 1)]
    sinks = [f"sink-{number}" for number in range(1, plan.sinks + 1)]
    return schedule(
        processes=[*workers, *sinks, "scheduler-1"],
        paused=[workers[-1], sinks[-1]] if plan.pause_seconds else [],
        kills=plan.kills,
        pause_seconds=plan.pause_seconds,
        seconds=plan.seconds,
        seed=plan.seed,
    )


def _publish(settings: Settings, records: Iterable[LoadRecord], plan: FaultPlan, injector: Injector) -> int:
    """At an even pace, with the faults in between."""
    producer = clients.producer(settings.kafka)
    topic = clients.topic_name(settings.kafka, topics.ACCOUNT_EVENTS)
    pending, published = iter(records), 0
    while batch := list(islice(pending, PUBLISH_RECORDS)):
        injector.step()
        for record in batch:
            producer.produce(topic, key=record.key, value=record.value, headers=list(record.headers))
        published += len(batch)
        due = injector.began + plan.seconds * published / plan.events
        while (left := due - time.monotonic()) > 0:
            producer.poll(min(left, 0.05))
            injector.step()
        producer.poll(0)
    left_over = producer.flush(60)
    assert left_over == 0, f"expected all records acknowledged, {left_over} are not"
    return published


def _wait_for_drain(settings: Settings) -> None:
    """Until every partition's cursor has passed the last input record."""
    log = Log(settings.kafka)
    ends = {
        number: log.bounds(topics.ACCOUNT_EVENTS, number)[1] for number in range(settings.kafka.partitions)
    }
    until = time.monotonic() + DRAIN_SECONDS_MAX
    while behind := {
        number: end for number, end in ends.items() if _next_offset(log, settings, number) < end
    }:
        assert time.monotonic() < until, f"expected the workers to reach {behind} in {DRAIN_SECONDS_MAX} s"
        time.sleep(0.2)
    log.close()


def _next_offset(log: Log, settings: Settings, partition: int) -> int:
    changelog = topics.changelog(settings.worker.app_id)
    low, high = log.bounds(changelog, partition)
    position = 0
    for message in log.messages(changelog, partition, start=max(low, high - TAIL_OFFSETS)):
        if message.key() == b"__cursor__":
            position = int(orjson.loads(message.value() or b"")["next_offset"])
    return position


def _without_ticks(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in outcomes.items() if name != "tick"}


def _summary(
    plan: FaultPlan,
    published: int,
    injector: Injector,
    times: dict[str, float],
    restarts: dict[str, int],
    report: Report,
    from_log: Audited,
    from_file: Audited,
) -> dict[str, Any]:
    charged = Decimal(report.charged_micros).scaleb(-6)
    differences = [*from_log.differences]
    for name, expected, found in (
        ("records", published, report.records - report.outcomes.get("tick", 0)),
        ("credits by the log", from_log.charged, charged),
        ("credits by the file", from_file.charged, charged),
        ("balances by the file", from_file.balances, from_log.balances),
        ("outcomes by the file", from_file.outcomes, _without_ticks(from_log.outcomes)),
        # A running scheduler ticks on between the two.
        ("outcomes", _without_ticks(from_log.outcomes), _without_ticks(report.outcomes)),
    ):
        if expected != found:
            differences.append(f"{name}: expected {str(expected)[:500]}, found {str(found)[:500]}")
    return {
        "plan": asdict(plan),
        "published": published,
        "faults": injector.summary(),
        "restarts": restarts,
        "seconds": times,
        "records": report.records,
        "accounts": report.accounts,
        "outcomes": dict(report.outcomes),
        "credits_charged": str(charged),
        "statements": from_log.statements,
        "partitions": [
            {"partition": each.partition, "watermark": each.watermark, "equal_up_to": each.equal_up_to}
            for each in report.partitions
        ],
        "reconcile": {
            "differences": report.differences_total,
            "by_kind": dict(report.counts),
            "first": [asdict(each) for each in report.differences[:20]],
        },
        "audit": {"differences": from_log.differences_total, "first": differences},
        "equal": report.equal and not differences,
    }


def _arguments() -> Iterator[tuple[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("events", 500_000), ("accounts", 5000), ("seed", 1), ("workers", 2), ("sinks", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pause-seconds", type=float, default=10)
    yield from vars(parser.parse_args()).items()


def main() -> int:
    """Run in a directory that is removed afterwards."""
    plan = FaultPlan(**dict(_arguments()))
    with tempfile.TemporaryDirectory(prefix="creditstream-faults-", ignore_cleanup_errors=True) as home:
        summary = fault_run(plan, Path(home), lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    print(json.dumps(summary, indent=2))  # noqa: T201
    return 0 if summary["equal"] else FINDINGS_EXIT_CODE


if __name__ == "__main__":
    sys.exit(main())
