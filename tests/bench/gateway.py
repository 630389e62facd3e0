"""Callers of the gateway over HTTP at a fixed rate, alone and beside usage that services send to Kafka themselves.

Open loop, as `tests.bench.holds`: each request counts from the instant at which it was due, to its whole answer. A
hold is answered when the worker has decided; an event, or a batch, when Kafka has it. All are from one machine.

The client is aiohttp's: httpx looks at every open connection for each request, and at these rates measures itself.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
import orjson

from pipeline.settings import ClickHouseSettings, KafkaSettings, Settings
from tests.bench.holds.run import PERCENTILES, process, publish_accounts
from tests.bench.holds.stages import percentile
from tests.bench.report import Line, machine_note
from tests.bench.run import broker, clickhouse, machine
from tests.bench.times import TimesReport, times_row
from tests.bench.workload import deployment
from tests.gateways import BATCH, CLOUD_EVENT, Deployment, deployed, event, square

ANSWER_SECONDS_MAX: Final = 30
JSON: Final = {"content-type": "application/json"}
CONNECTIONS_MAX: Final = 200
"""Of all callers together; the gateway takes a thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One kind of request."""

    title: str
    per_second: float
    status: int
    events: int = 0
    """How many are in it."""


CALLS: Final[Mapping[str, Call]] = {
    "hold": Call(title="hold → the worker's decision", per_second=50, status=201),
    "event": Call(title="one event → acknowledged by Kafka", per_second=50, status=202, events=1),
    "batch": Call(title="a hundred events → acknowledged by Kafka", per_second=2, status=202, events=100),
}
ASKED: Final = ", ".join(
    [
        f"{CALLS['hold'].per_second:g} holds/s",
        f"{sum(each.per_second * each.events for each in CALLS.values()):g} events/s",
    ]
)
BESIDE: Final[Mapping[str, float]] = {"alone": 0, "beside": 1000}
"""Usage events a second that go to Kafka directly meanwhile, of the same accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPlan:
    """How much is asked, and how often."""

    runs: int = 3
    seconds: float = 20
    warm_up_seconds: float = 3
    """Of them, at their beginning, and not measured."""
    accounts: int = 5000
    beside: Mapping[str, float] = field(default_factory=lambda: BESIDE)
    is_judged: bool = False
    """No figure was promised: what it shows is the way's length, beside `bench holds`, which has no HTTP."""


GATEWAY_QUICK: Final = GatewayPlan(runs=1, seconds=2, warm_up_seconds=0.5, accounts=50, beside={"beside": 20})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCalls:
    """One load: in every run, by kind of call, milliseconds of each."""

    name: str
    title: str
    runs: Sequence[Mapping[str, Sequence[float]]]

    def line(self, call: str, named: str) -> Line:
        """A percentile of every run."""
        return Line(
            name=f"{self.name}-{call}-{named}",
            title=f"{self.title}: {CALLS[call].title}, {named}",
            unit="ms",
            values=tuple(percentile(each[call], PERCENTILES[named]) for each in self.runs),
        )

    def lines(self) -> list[Line]:
        return [self.line(call, named) for call in CALLS for named in PERCENTILES]


GatewayReport: TypeAlias = TimesReport[GatewayPlan, MeasuredCalls]


def run_gateway(plan: GatewayPlan, say: Callable[[str], None]) -> GatewayReport:
    """Measure on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        shape, directory = machine(), Path(name)
        say("starting a broker and ClickHouse")
        with broker(directory) as servers, clickhouse(directory) as tables:
            kafka = KafkaSettings(bootstrap_servers=servers)
            measured = measure(kafka, tables, directory, plan, say)
            return GatewayReport(machine=shape, plan=plan, measured=measured)


def measure(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    directory: Path,
    plan: GatewayPlan,
    say: Callable[[str], None],
) -> list[MeasuredCalls]:
    """Every load, one run after the other. Databases are named after `clickhouse.database`."""
    measured: list[MeasuredCalls] = []
    for name, usage_per_second in plan.beside.items():
        title = f"{ASKED} over HTTP" + (
            f", {usage_per_second:g} events/s to Kafka" if usage_per_second else ""
        )
        runs: list[Mapping[str, Sequence[float]]] = []
        for number in range(1, plan.runs + 1):
            settings = deployment(directory, f"gateway-{name}-{number}", kafka, clickhouse)
            runs.append(_run(settings, plan, usage_per_second))
            told = "; ".join(
                f"{call} p50 {percentile(taken, 0.5):.1f} ms, p99 {percentile(taken, 0.99):.1f} ms"
                for call, taken in runs[-1].items()
            )
            say(f"{title}, run {number}: {told}")
        measured.append(MeasuredCalls(name=name, title=title, runs=runs))
    return measured


def _run(settings: Settings, plan: GatewayPlan, usage_per_second: float) -> Mapping[str, Sequence[float]]:
    accounts = [f"a{each}" for each in range(plan.accounts)]
    with deployed(settings) as there, ExitStack() as beside:
        publish_accounts(settings, accounts)
        if usage_per_second:
            arguments = [str(each) for each in (usage_per_second, plan.seconds + 1, plan.accounts)]
            beside.enter_context(process(settings, "tests.bench.holds.usage_stream", *arguments))
        return asyncio.run(_ask(there, accounts, plan))


async def _ask(
    there: Deployment, accounts: Sequence[str], plan: GatewayPlan
) -> Mapping[str, Sequence[float]]:
    taken: dict[str, list[float]] = {call: [] for call in CALLS}
    async with (
        aiohttp.ClientSession(
            there.url("gateway"),
            headers={"authorization": f"Bearer {there.key}"},
            timeout=aiohttp.ClientTimeout(ANSWER_SECONDS_MAX),
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        ) as client,
        asyncio.TaskGroup() as asking,
    ):
        begun = time.monotonic()
        for call in CALLS:
            asking.create_task(_ask_often(client, call, accounts, plan, begun, taken[call]))
    return taken


async def _ask_often(
    client: aiohttp.ClientSession,
    name: str,
    accounts: Sequence[str],
    plan: GatewayPlan,
    begun: float,
    taken: list[float],
) -> None:
    """Each request at its instant, however slow the answers are."""
    call, rate = CALLS[name], CALLS[name].per_second

    async def ask(number: int, due: float) -> None:
        path, body, headers = _request(name, call.events, accounts, number)
        async with client.post(path, data=body, headers=headers) as said:
            text = await said.text()
        assert said.status == call.status, f"{path}: {said.status} {text}"
        if due >= begun + plan.warm_up_seconds:
            taken.append((time.monotonic() - due) * 1000)

    async with asyncio.TaskGroup() as sent:
        for number in range(int(rate * plan.seconds)):
            due = begun + number / rate
            await asyncio.sleep(due - time.monotonic())
            sent.create_task(ask(number, due))


def _request(
    name: str, events: int, accounts: Sequence[str], number: int
) -> tuple[str, bytes, Mapping[str, str]]:
    def account(shift: int) -> str:
        return accounts[(number + shift) % len(accounts)]

    if name == "hold":
        body: Any = {"account_id": account(0), "hold_id": f"h{number}", "usage": square()}
        return "/v1/holds", orjson.dumps(body), {**JSON, "idempotency-key": f"h{number}"}
    if events == 1:
        return "/v1/events", orjson.dumps(event(account(0))), CLOUD_EVENT
    return "/v1/events", orjson.dumps([event(account(each)) for each in range(events)]), BATCH


def gateway_rows(measured: Sequence[MeasuredCalls]) -> list[tuple[str, ...]]:
    """The table, under `TIMES_COLUMNS`; values are medians over the runs."""
    return [
        times_row(
            f"{each.title}: {CALLS[call].title}" if number == 0 else f"  {CALLS[call].title}",
            {named: each.line(call, named) for named in PERCENTILES},
        )
        for each in measured
        for number, call in enumerate(CALLS)
    ]


def gateway_footnote(report: GatewayReport) -> str:
    """What stands below the table."""
    plan = report.plan
    return (
        f"Medians of {plan.runs} runs of {plan.seconds:g} s, the first {plan.warm_up_seconds:g} s left out; "
        f"{plan.accounts:,} accounts, 4 partitions, one gateway, one worker, one sink; broker, ClickHouse and callers "
        "on one machine.\n" + machine_note(report.machine)
    )
