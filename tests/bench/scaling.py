"""What changes when there is more: more accounts, longer histories, another worker. The worker as it ships, alone.

Every scenario reads an input of its own from one broker. Accounts: as many events of ten thousand accounts, once alone,
once among a hundred times as many that are open and rest, and once of all those; all are open before anything counts.
The second shows what a large table costs, the third also what it costs that a batch meets more accounts. Histories: one
long input of few accounts, its first fifth beside its last, within one run. Workers: the first input by two processes,
which share the two cores.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.measure import looks_at, speed_of
from tests.bench.programs import WORKER
from tests.bench.report import Line, Report
from tests.bench.run import broker, machine
from tests.bench.workload import Workload, begin_run, publish

UNCHANGED_MIN: Final = 0.9
"""At most a tenth slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlan:
    """How much is measured."""

    runs: int = 3
    events: int = 200_000
    accounts: int = 10_000
    many_accounts: int = 1_000_000
    long_events: int = 1_000_000
    long_accounts: int = 100
    """Of the long input: ten thousand events each on average, of the busiest two hundred thousand."""
    scenarios: Sequence[str] = ("few", "among", "many", "long", "two")
    is_judged: bool = True


SCALING_QUICK: Final = ScalingPlan(
    runs=1, events=2000, accounts=20, many_accounts=200, long_events=2000, long_accounts=5,
    scenarios=("two",), is_judged=False,
)  # fmt: skip
"""The worker alone runs in the other quick benches; here it is two."""
TITLES: Final[Mapping[str, str]] = {
    "few": "few accounts, one worker",
    "among": "few accounts among many that rest",
    "many": "many accounts",
    "short": "the first fifth of a long history",
    "long": "the last fifth of a long history",
    "two": "few accounts, two workers",
}
COMPARED: Final[Mapping[str, tuple[str, str, float | None]]] = {
    "table": ("among", "few", UNCHANGED_MIN),
    "accounts": ("many", "few", UNCHANGED_MIN),
    "history": ("long", "short", UNCHANGED_MIN),
    "workers": ("two", "few", None),
}
"""Ratio → its two sides, and its goal."""


def run_scaling(plan: ScalingPlan, say: Callable[[str], None]) -> Report:
    """Measure on a broker of its own. Raises ProgramFailedError."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        say("starting a broker")
        with broker(Path(name)) as servers:
            return measure(servers, Path(name), plan, say)


def measure(servers: str, directory: Path, plan: ScalingPlan, say: Callable[[str], None]) -> Report:
    """Publish the inputs, then every scenario in turns."""
    shape = machine()
    say(f"publishing for {plan.accounts:,} and {plan.many_accounts:,} accounts, and a long history")
    few = {"events": plan.events, "accounts": plan.accounts}
    sizes: Mapping[str, Mapping[str, int]] = {
        "few": few,
        "among": {**few, "idle_accounts": plan.many_accounts - plan.accounts},
        "many": {"events": plan.events, "accounts": plan.many_accounts},
        "long": {"events": plan.long_events, "accounts": plan.long_accounts},
        "two": few,
    }
    inputs = {name: publish(servers, directory, name=name, **sizes[name]) for name in plan.scenarios}
    rounds: list[dict[str, float]] = []
    for number in range(1, plan.runs + 1):
        done: dict[str, float] = {}
        for name, workload in inputs.items():
            done |= _speeds(name, workload, number)
        rounds.append(done)
        say(f"round {number}: " + ", ".join(f"{TITLES[name]} {speed:,.0f}" for name, speed in done.items()))
    work = {
        name: getattr(plan, name)
        for name in (
            "runs",
            "events",
            "accounts",
            "many_accounts",
            "long_events",
            "long_accounts",
            "is_judged",
        )
    }
    return Report(machine=shape, work=work, lines=_lines(rounds, plan))


def _speeds(name: str, workload: Workload, number: int) -> dict[str, float]:
    """Events a second by what is measured: of a long history its two ends."""
    records, begun = workload.records, workload.warm_up_records
    looks = looks_at(
        WORKER.command,
        begin_run(workload, f"{name}-{number}"),
        records=records,
        processes=2 if name == "two" else 1,
    )
    if name != "long":
        return {name: speed_of(looks, records=records, warm_up=begun).events_per_second}
    fifth = (records - begun) // 5
    return {
        "short": speed_of(looks, records=records, warm_up=begun, until=begun + fifth).events_per_second,
        "long": speed_of(looks, records=records, warm_up=records - fifth).events_per_second,
    }


def _lines(rounds: Sequence[Mapping[str, float]], plan: ScalingPlan) -> list[Line]:
    speeds = [
        Line(name=name, title=title, unit="events/s", values=tuple(each[name] for each in rounds))
        for name, title in TITLES.items()
        if name in rounds[0]
    ]
    if not plan.is_judged:
        return speeds
    ratios = [
        Line(
            name=name, title=f"{TITLES[more]} to {TITLES[less]}", unit="×", goal=goal,
            values=tuple(each[more] / each[less] for each in rounds),
        )
        for name, (more, less, goal) in COMPARED.items()
    ]  # fmt: skip
    return [*speeds, *ratios]
