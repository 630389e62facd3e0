"""Whether it stays as it is under load for an hour: memory of every process, and how long balances and rows take.

    python -m tests.bench.soak --minutes 60 --report soak.json

A broker and a ClickHouse of its own; worker, sink, scheduler and reconciler as they ship. First what this machine can
take: a burst, faster than they can follow, and from its rate downwards the first at which nothing piles up (Karimov et
al., Benchmarking Distributed Stream Data Processing Systems, 2018: "sustainable throughput"), neither on its way into
ClickHouse nor before the reconciler. Then usage at half of that. Some events of each second are followed one by one,
and how far behind the log the running reconciler is; every minute is a line. At the end everything is compared: exit
code 6 if anything differs, or if the running reconciler had named a difference.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from pipeline.cli.exits import Exit
from pipeline.clickhouse import Client, open_analyst
from pipeline.client.events import encode, usage_event
from pipeline.client.origin import now_text
from pipeline.kafka import KafkaError, Message, drain, producer, topic_name
from pipeline.reconcile.marks import newest_marks
from pipeline.reconcile.topics import Log
from pipeline.settings import KafkaSettings, Settings, WorkerSettings, child_environment
from schemas.topics import ACCOUNT_BALANCES, ACCOUNT_EVENTS
from tests.bench.holds.run import process, publish_accounts
from tests.bench.holds.stages import percentile
from tests.bench.holds.usage_stream import DATA
from tests.bench.measure import SOURCE_TREE
from tests.bench.reading import from_the_end
from tests.bench.run import broker, clickhouse
from tests.bench.workload import deployment
from tests.integration.sinking import sink_environment
from tests.stack import wait_until

PROBES_PER_SECOND: Final = 20
PROBE: Final = "probe"
"""Account of the events that are followed."""
ACCOUNTS: Final = 5000
BURST_RATE: Final = 20_000
BURST_SECONDS: Final = 15
TRIAL_SECONDS: Final = 180
"""Of each rate that is tried: long enough for ClickHouse to merge what it takes, which a burst leaves for later."""
TRIAL_STEP: Final = 0.7
"""From one rate that is tried to the next."""
LATE_SECONDS_MAX: Final = 3
"""After a trial's end until all of it is stored; more has piled up."""
UNCOMPARED_SECONDS_MAX: Final = 90
"""Of a trial's events at its end. One that follows is a turn behind, about a minute on a full machine; one that is
starved is behind by the whole trial."""
CATCH_UP_SECONDS_MAX: Final = 900
UNCOMPARED_RECORDS_FEW: Final = 1000
HOUR_SECONDS: Final = 300
"""Of the identity index, so that several of its hours end within the run: what is in memory is the hour that runs."""
LOOK_SECONDS: Final = 0.25
MINUTE_SECONDS: Final = 60
DRAIN_SECONDS_MAX: Final = 600
READ_RECORDS: Final = 1000
MARKS_READ_AHEAD_BYTES: Final = 1_048_576
_STORED: Final = """
SELECT partition, max(offset) + 1 AS stored, toUnixTimestamp64Milli(max(accepted_at)) AS newest FROM metered_records
WHERE account_id = {account:String} AND accepted_at >= {since:DateTime64(3, 'UTC')} GROUP BY partition
"""
"""Of one account, which the sort key finds, and of parts with rows as new as the last: asked of all, it reads the whole
hour and slows down what it watches."""
_COUNT: Final = "SELECT count() FROM metered_records"
PROCESSES: Final = {
    "worker": "pipeline worker",
    "sink": "pipeline sink",
    "scheduler": "pipeline scheduler",
    "reconciler": "pipeline reconciler",
    "kafka": "kafka.Kafka",
    "clickhouse": "clickhouse",
}
"""Name → what its command line contains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What one minute was like. Milliseconds from when an event was due to be sent."""

    minute: int
    events: int
    balance_p50: float
    balance_p99: float
    stored_p50: float
    stored_p99: float
    memory_bytes: dict[str, int]
    """Of each program its own; what it has mapped of files, which the system takes back when it wants, is apart."""
    mapped_bytes: dict[str, int]
    uncompared: int
    """Records of the log that the running reconciler has not compared."""
    differences: int
    """That it names."""


@dataclass
class Followed:
    """Events that are followed one by one, until all that is asked about them is known."""

    due: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])
    balance_ms: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])
    stored_ms: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reached(self, into: dict[tuple[int, int], float], partition: int, end: int, at: float) -> None:
        """All events of the partition before this offset are there by now."""
        with self.lock:
            for place, due in self.due.items():
                if place[0] == partition and place[1] < end and place not in into:
                    into[place] = (at - due) * 1000

    def take(self, before: float) -> tuple[list[float], list[float]]:
        """Both times of the events that were due before, which are followed no longer; later of those that are late."""
        with self.lock:
            due = [place for place, due in self.due.items() if due < before]
            places = [place for place in due if place in self.balance_ms and place in self.stored_ms]
            late = min((self.due[place] for place in set(due).difference(places)), default=before)
            assert late > before - MINUTE_SECONDS, f"an event is {before - late:.0f} s late"
            for place in places:
                del self.due[place]
            return [self.balance_ms.pop(each) for each in places], [
                self.stored_ms.pop(each) for each in places
            ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument(
        "--rate", type=float, help="events a second; half of what can be sustained if not given"
    )
    parser.add_argument(
        "--below", type=float, help="a rate that is known to be too much; what a burst shows if not given"
    )
    parser.add_argument("--report", type=Path, help="a JSON file, rewritten every minute")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="creditstream-soak-") as name, ExitStack() as running:
        settings = _deployment(Path(name), running)
        rate = chosen.rate or _sustainable(settings, chosen.below) / 2
        _say(f"{rate:,.0f} events/s for {chosen.minutes} minutes")
        minutes: list[Minute] = []
        for minute in _soak(settings, rate, chosen.minutes):
            minutes.append(minute)
            _say(_line(minute))
            if chosen.report is not None:
                told = {"rate": rate, "minutes": [asdict(each) for each in minutes]}
                chosen.report.write_text(json.dumps(told, indent=1))
        named = sum(each.differences for each in minutes)
        return _reconcile(settings) or (Exit.FINDINGS if named else Exit.OK)


def _end(_number: int, _frame: object) -> None:
    """What was started ends with us."""
    sys.exit(Exit.TERMINATED)


def _deployment(directory: Path, running: ExitStack) -> Settings:
    servers = running.enter_context(broker(directory))
    tables = running.enter_context(clickhouse(directory))
    settings = deployment(
        directory,
        "soak",
        KafkaSettings(bootstrap_servers=servers),
        tables,
        worker=WorkerSettings(identity_hour_seconds=HOUR_SECONDS),
    )
    for program in ("worker", "sink", "scheduler", "reconciler"):
        running.enter_context(process(settings, "pipeline", program, **sink_environment(settings)))
    publish_accounts(settings, [*(f"a{each}" for each in range(ACCOUNTS)), PROBE])
    return settings


def _sustainable(settings: Settings, below: float | None) -> float:
    """Events a second that pile up nowhere."""
    with closing(open_analyst(settings.clickhouse)) as client:
        rate = below or _store(settings, client, BURST_RATE, BURST_SECONDS)[1]
        _say(f"{rate:,.0f} events/s are too much")
        is_sustained = False
        while not is_sustained:
            _wait_for_the_reconciler(settings)
            rate *= TRIAL_STEP
            is_sustained = _is_sustained(settings, client, rate)
    _wait_for_the_reconciler(settings)
    return rate


def _is_sustained(settings: Settings, client: Client, rate: float) -> bool:
    late = _store(settings, client, rate, TRIAL_SECONDS)[0] - (TRIAL_SECONDS - 1)
    behind = _compared(settings)[0] / rate
    _say(
        f"{rate:,.0f} events/s for {TRIAL_SECONDS} s: all stored {late:.1f} s after their end, "
        f"those of {behind:.0f} s not compared"
    )
    return late <= LATE_SECONDS_MAX and behind <= UNCOMPARED_SECONDS_MAX


def _store(settings: Settings, client: Client, rate: float, seconds: int) -> tuple[float, float]:
    """Send usage, and wait until all but its last second is stored: the seconds since the first row, and how many rows
    came in each."""
    before = _stored(client)
    end = before + int(rate * (seconds - 1))
    with _usage(settings, rate, seconds):
        wait_until("the first is stored", lambda: _stored(client) > before, DRAIN_SECONDS_MAX)
        first, first_at = _stored(client), time.monotonic()
        wait_until("all is stored", lambda: _stored(client) >= end, seconds + DRAIN_SECONDS_MAX)
        taken = time.monotonic() - first_at
    return taken, (end - first) / taken


def _stored(client: Client) -> int:
    return int(client.query(_COUNT).result_rows[0][0])


def _wait_for_the_reconciler(settings: Settings) -> None:
    """But for what the scheduler has said since its last turn."""
    wait_until(
        "all is compared", lambda: _compared(settings)[0] < UNCOMPARED_RECORDS_FEW, CATCH_UP_SECONDS_MAX
    )


def _usage(settings: Settings, rate: float, seconds: float) -> Any:
    return process(settings, "tests.bench.holds.usage_stream", str(rate), str(seconds), str(ACCOUNTS))


def _soak(settings: Settings, rate: float, minutes: int) -> Iterator[Minute]:
    followed, stop = Followed(), threading.Event()
    threads = [
        threading.Thread(target=each, args=(settings, followed, stop), daemon=True)
        for each in (_send_probes, _follow_balances, _follow_rows)
    ]
    with (
        closing(open_analyst(settings.clickhouse)) as client,
        _usage(settings, rate - PROBES_PER_SECOND, minutes * MINUTE_SECONDS),
    ):
        for thread in threads:
            thread.start()
        begun, before = time.time(), _stored(client)
        for minute in range(1, minutes + 1):
            until = begun + minute * MINUTE_SECONDS
            time.sleep(
                max(0.0, until + MINUTE_SECONDS / 6 - time.time())
            )  # Its last events are there by then.
            balance, stored = followed.take(until)
            count = _stored(client)
            uncompared, differences = _compared(settings)
            yield Minute(
                minute=minute,
                events=count - before,
                balance_p50=percentile(balance, 0.5),
                balance_p99=percentile(balance, 0.99),
                stored_p50=percentile(stored, 0.5),
                stored_p99=percentile(stored, 0.99),
                uncompared=uncompared,
                differences=differences,
                **_memory(),
            )
            before = count
        stop.set()
        for thread in threads:
            thread.join()


def _send_probes(settings: Settings, followed: Followed, stop: threading.Event) -> None:
    sender, topic = producer(settings.kafka), topic_name(settings.kafka, ACCOUNT_EVENTS)
    begun, number = time.time(), 0
    while not stop.is_set():
        due = begun + number / PROBES_PER_SECOND
        time.sleep(max(0.0, due - time.time()))
        event = usage_event(
            "image_generation", account=PROBE, event_id=f"probe-{number}", source="/soak", time=now_text(),
            data=DATA,
        )  # fmt: skip
        key, value = encode(event)
        sender.produce(topic, value, key, on_delivery=_noted(followed, due))
        sender.poll(0)
        number += 1
    assert sender.flush(MINUTE_SECONDS) == 0


def _noted(followed: Followed, due: float) -> Any:
    def told(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        with followed.lock:
            followed.due[message.partition() or 0, message.offset() or 0] = due

    return told


def _follow_balances(settings: Settings, followed: Followed, stop: threading.Event) -> None:
    with closing(from_the_end(settings.kafka, ACCOUNT_BALANCES)) as reader:
        while not stop.is_set():
            for message in drain(reader, READ_RECORDS, LOOK_SECONDS):
                assert message.error() is None, message.error()
                if message.key() == PROBE.encode():
                    end = int(orjson.loads(message.value() or b"{}")["offset"]) + 1
                    followed.reached(followed.balance_ms, message.partition() or 0, end, time.time())


def _follow_rows(settings: Settings, followed: Followed, stop: threading.Event) -> None:
    since = time.time()
    with closing(open_analyst(settings.clickhouse)) as client:
        while not stop.wait(LOOK_SECONDS):
            answer = client.query(_STORED, parameters={"account": PROBE, "since": f"{since:.3f}"})
            at = time.time()
            for partition, end, newest_ms in answer.result_rows:  # One partition: it is one account.
                followed.reached(followed.stored_ms, partition, end, at)
                since = newest_ms / 1000


def _memory() -> dict[str, dict[str, int]]:
    """Resident bytes of every process, by its name in `PROCESSES`: `memory_bytes` and `mapped_bytes` of `Minute`."""
    own: defaultdict[str, int] = defaultdict(int)
    mapped: defaultdict[str, int] = defaultdict(int)
    for child in psutil.Process().children(recursive=True):
        seen = child.as_dict(["cmdline", "memory_info"])  # Without either for one that has ended.
        command = " ".join(seen["cmdline"] or [])
        name = next((name for name, part in PROCESSES.items() if part in command), None)
        if name is not None:
            of_files = getattr(seen["memory_info"], "shared", 0)  # Linux tells it.
            own[name] += seen["memory_info"].rss - of_files
            mapped[name] += of_files
    return {"memory_bytes": dict(own), "mapped_bytes": dict(mapped)}


def _compared(settings: Settings) -> tuple[int, int]:
    """By the marks of the running reconciler: how many records it has not compared, how many differences it names."""
    with closing(Log(settings.kafka, read_ahead_bytes=MARKS_READ_AHEAD_BYTES)) as log:
        ends = sum(log.bounds(ACCOUNT_EVENTS, each)[1] for each in range(settings.kafka.partitions))
        marks = newest_marks(log, settings)
    return ends - sum(each.compared_up_to for each in marks), sum(each.differences_total for each in marks)


def _reconcile(settings: Settings) -> int:
    _say("comparing everything")
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "reconcile", "--wait", str(DRAIN_SECONDS_MAX)],
        env=child_environment(settings, **sink_environment(settings)),
        cwd=SOURCE_TREE,
        check=False,
    ).returncode


def _line(minute: Minute) -> str:
    taken = ", ".join(
        f"{name} {size / 1e6:.0f}+{minute.mapped_bytes[name] / 1e6:.0f}"
        for name, size in sorted(minute.memory_bytes.items())
    )
    return (
        f"{minute.minute:>3}  {minute.events:>8,} events  "
        f"balance p50 {minute.balance_p50:.0f} p99 {minute.balance_p99:.0f} ms  "
        f"row p50 {minute.stored_p50:.0f} p99 {minute.stored_p99:.0f} ms  "
        f"not compared {minute.uncompared:,}, differences {minute.differences}  MB, own+mapped: {taken}"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    code = main()
    assert code in (0, Exit.FINDINGS), f"reconcile ended with code {code}"
    sys.exit(code)
