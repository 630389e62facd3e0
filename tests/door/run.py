"""One run: programs that are kept alive, their kills by a seed, the outage, and what is known at the end."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from subprocess import Popen
from typing import Final, Literal

import httpx2 as httpx
import orjson
from pydantic import SecretStr

from pipeline.admin.topics import ensure_topics
from pipeline.client import ClientOptions, UsageClient
from pipeline.client.schedule import DeploymentReader
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS
from tests.conftest import COMMAND_KEY_ID, COMMAND_SECRET
from tests.door.callers import Callers
from tests.door.verdict import Known, Verdict, judge
from tests.gateways import Deployment, make_key, write_settings
from tests.integration.broker import Broker, own_broker
from tests.stack import START_SECONDS_MAX, wait_until

ACCOUNTS: Final = 5
"""Of the service."""
CALLED: Final = "called"
"""The account of those who call the gateway without our client."""
CREDITS: Final = "100000000"
QUEUE_EVENTS_MAX: Final = 50
"""Small, so that it is full soon."""
NUMBERS_OF_A_LIFE: Final = 1_000_000
LIFE_SECONDS_MIN: Final = 0.3
"""Of a program, from when it is at work again."""
RESTART_SECONDS: Final = 0.3
SPOOL_BYTES_A_SECOND: Final = 20_000
"""Of an outage: a fraction of what the service records, so that spool and queue are full before its end."""
SPOOL_BYTES_MIN: Final = 64_000
SETTLE_SECONDS_MAX: Final = 600
JOBS_AFTER: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    kills: int
    """Of the service, and as many of the gateway."""
    outage_seconds: float
    outage_by: Literal["kill", "sleep"]
    """Whether the broker is killed and started anew, or stopped and goes on: connections stay, nobody answers."""

    @property
    def life_seconds_max(self) -> float:
        """So that some kills fall into the outage and some do not."""
        return max(1.5, self.outage_seconds / 12)


def run(plan: Plan, directory: Path, say: Callable[[str], None]) -> Verdict:
    """All of it. Raises AssertionError when something does not come back."""
    with own_broker(directory / "broker") as broker:
        return Run(plan, directory, broker, say).go()


@dataclass
class Keeper:
    """Starts again what has ended, as a supervisor does."""

    there: Deployment
    begun: Counter[str] = field(default_factory=Counter)
    """How often each was started."""
    _starts: dict[str, Callable[[], None]] = field(default_factory=dict[str, Callable[[], None]])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def keep(self, name: str, start: Callable[[], None]) -> None:
        with self._lock:
            self._starts[name] = start
            self._start(name)

    def leave(self, name: str) -> None:
        """It may end now."""
        with self._lock:
            del self._starts[name]

    def has_begun_more(self, name: str, times: int) -> bool:
        return self.begun[name] > times

    def _start(self, name: str) -> None:
        self._starts[name]()
        self.begun[name] += 1

    def _watch(self) -> None:
        while not self._closing.wait(RESTART_SECONDS):
            with self._lock:
                for name in self._starts:
                    if self.there.processes[name].poll() is not None:
                        self._start(name)

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._closing.set()
            thread.join()


class Run:
    """A deployment without ClickHouse: what is charged is decided before it."""

    def __init__(self, plan: Plan, directory: Path, broker: Broker, say: Callable[[str], None]) -> None:
        self._plan, self._broker, self._say = plan, broker, say
        self._directory = directory
        self._told = directory / "told"
        self._settings = Settings(
            home=directory / "home",
            kafka=broker.settings,
            command_key_id=COMMAND_KEY_ID,
            command_keys={COMMAND_KEY_ID: SecretStr(COMMAND_SECRET)},
        )
        self.there = Deployment(self._settings)
        self._keeper = Keeper(self.there)
        self._lives = count()
        self._killed = Counter[str]()

    def go(self) -> Verdict:
        began = time.monotonic()
        known = Known()
        with self.there, self._keeper.watching():
            options = self._begin()
            holds = self._under_fire(known)
            self._wait_for_jobs()
            self._bring_home(options)
            held = self._held()
        known.read(self._told)
        self._say("the auditor judges")
        verdict = judge(self._settings, known)
        verdict.find("holds lost", [] if held == len(holds) else [f"{len(holds)} placed, {held} held"])
        verdict.counts |= {f"kills of the {name}": times for name, times in self._killed.items()}
        verdict.counts |= {f"starts of the {name}": times for name, times in self._keeper.begun.items()}
        verdict.counts |= {"holds placed": len(holds), "seconds": round(time.monotonic() - began)}
        return verdict

    def _begin(self) -> ClientOptions:
        """Everything is at work; the options of the service."""
        write_settings(self._settings)
        ensure_topics(self._settings)
        self.there.key = make_key(self._settings)
        self._keeper.keep("worker", partial(self.there.start, "worker", "worker"))
        self._keeper.keep("gateway", partial(self.there.launch_gateway, "gateway"))
        self._wait_for_gateway()
        self._open_accounts()
        options = ClientOptions(
            source="/services/killed",
            kafka=self._settings.kafka,
            gateway_url=self.there.url("gateway"),
            api_key=SecretStr(self.there.key),
            spool_directory=self._directory / "spool",
            spool_after_ms=200,
            spool_bytes_max=max(SPOOL_BYTES_MIN, int(self._plan.outage_seconds * SPOOL_BYTES_A_SECOND)),
            queue_events_max=QUEUE_EVENTS_MAX,
        )
        self._told.touch()
        written = options.model_dump(mode="json") | {"api_key": self.there.key}
        (self._directory / "options.json").write_bytes(orjson.dumps(written))
        self._keeper.keep("service", self._start_service)
        return options

    def _open_accounts(self) -> None:
        with self.there.client() as client:
            same = {"idempotency-key": "first"}
            first = {"account_id": CALLED, "plan": "free"}
            wait_until(
                "the worker answers",
                lambda: client.post("/v1/accounts", json=first, headers=same).status_code == 201,
                START_SECONDS_MAX,
            )
            pack = {"grant_id": "pack", "kind": "prepaid", "credits": CREDITS}
            assert client.post(f"/v1/accounts/{CALLED}/grants", json=pack).status_code == 201
        for number in range(ACCOUNTS):
            self.there.open(f"acct-{number}", "free", credits=CREDITS)

    def _start_service(self) -> None:
        files = [str(self._directory / "options.json"), str(self._told)]
        numbers = [str(next(self._lives) * NUMBERS_OF_A_LIFE), str(ACCOUNTS)]
        with (self._directory / "service.log").open("ab") as log:
            self.there.processes["service"] = Popen(
                [sys.executable, "-m", "tests.door.service", *files, *numbers], stderr=log
            )

    def _under_fire(self, known: Known) -> set[str]:
        """Kills and the outage under load; the holds that the callers placed."""
        plan, callers = self._plan, Callers(self.there, CALLED, self._plan.outage_seconds + START_SECONDS_MAX)
        with ThreadPoolExecutor() as pool:
            callers.start(pool)
            striking = [
                pool.submit(self._strike, "service", self._wait_for_service),
                pool.submit(self._strike, "gateway", self._wait_for_gateway),
            ]
            try:
                self._outage(Random(f"{plan.seed} outage"))
                for each in striking:
                    each.result()
            finally:
                callers.stop()
            events, holds = callers.answered()
        known.events |= events
        return holds

    def _strike(self, name: str, at_work: Callable[[], None]) -> None:
        random = Random(f"{self._plan.seed} {name}")
        for number in range(self._plan.kills):
            time.sleep(random.uniform(LIFE_SECONDS_MIN, self._plan.life_seconds_max))
            begun = self._keeper.begun[name]
            self.there.processes[name].kill()
            self._killed[name] += 1
            self._say(f"{name} killed, {number + 1} of {self._plan.kills}")
            wait_until(f"another {name} is started", partial(self._keeper.has_begun_more, name, begun))
            at_work()

    def _outage(self, random: Random) -> None:
        """Begins at a random moment after a third of the service's kills."""
        third = self._plan.kills // 3
        wait_until("a third is killed", lambda: self._killed["service"] >= third, SETTLE_SECONDS_MAX)
        time.sleep(random.uniform(0, LIFE_SECONDS_MIN))
        is_killed = self._plan.outage_by == "kill"
        (self._broker.kill if is_killed else self._broker.sleep)()
        self._say(f"Kafka is away for {self._plan.outage_seconds:g} s")
        time.sleep(self._plan.outage_seconds)  # Not a wait: the length of the outage.
        (self._broker.start if is_killed else self._broker.wake)()
        self._say("Kafka is back")

    def _wait_for_service(self) -> None:
        size = self._told.stat().st_size
        wait_until("the service is at work", lambda: self._told.stat().st_size > size, START_SECONDS_MAX)

    def _wait_for_jobs(self) -> None:
        """After the fire jobs go through again; so many that images fail among them, however short it was."""
        begins = self._told.stat().st_size

        def captured() -> bool:
            with self._told.open("rb") as told:
                told.seek(begins)
                return told.read().count(b"captured") >= JOBS_AFTER

        wait_until("jobs are captured again", captured, SETTLE_SECONDS_MAX)

    def _wait_for_gateway(self) -> None:
        def ready() -> bool:
            try:
                return httpx.get(f"{self.there.url('gateway')}/readyz", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        wait_until("the gateway is ready", ready, self._plan.outage_seconds + START_SECONDS_MAX)

    def _bring_home(self, options: ClientOptions) -> None:
        """The service ends, an heir sends what it spooled, and the worker answers all of the log."""
        self._keeper.leave("service")
        self.there.processes["service"].kill()
        self.there.processes["service"].wait()
        with UsageClient(options) as heir:
            spool = self._directory / "spool"
            wait_until("the spool is empty", lambda: not list(spool.iterdir()), SETTLE_SECONDS_MAX)
            assert heir.stats().spool_damaged == 0
        with closing(DeploymentReader(self._settings)) as reader:

            def caught_up() -> bool:
                ends = {each: reader.bounds(ACCOUNT_EVENTS, each)[1] for each in reader.cursors()}
                reached = {each: cursor.next_offset for each, cursor in reader.cursors().items() if cursor}
                return all(reached.get(each, 0) >= end for each, end in ends.items())

            wait_until("everything has its answer", caught_up, SETTLE_SECONDS_MAX)

    def _held(self) -> int:
        with self.there.client() as client:
            return int(client.get(f"/v1/accounts/{CALLED}/balance").json()["held"])
