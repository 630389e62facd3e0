"""What the core costs beside orjson's decode of the same plain usage events: the one figure that no server decides.

`creditstream bench core` runs the core interpreted and, where there is a C compiler, compiled (`deploy/compile.py`), in
turns, in processes of their own. In every process each batch is decoded and then folded, right after each other, so
that what slows the machine slows both sides of the ratio. All must say the same records, byte for byte.
`python -m tests.bench.core_cost EVENTS ACCOUNTS` is one such process; it prints `Cost` as JSON.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.bootstrap import load_core
from pipeline.compiled import runs_compiled
from pipeline.kafka import Logged
from pipeline.load import CommandKey, LoadPlan, generate
from pipeline.metering import Batch, Core, Folded, initial_cursor
from pipeline.settings import Settings
from tests.bench.measure import RUN_SECONDS_MAX, SOURCE_TREE, ProgramFailedError
from tests.bench.peers.state import PartitionState
from tests.bench.report import Line, Report
from tests.bench.run import ResultsDifferError, machine

CORE_TO_DECODE_MAX: Final = 10.0
"""Issue of the ledger: all rules together cost at most ten times orjson's decode of the same event."""
BATCH_ROWS: Final = 10_000
"""As many as the worker takes at most."""
EVENTS_PER_MS: Final = 5
SECRET: Final = "be" * 32
START_MS: Final = 1_795_003_200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CorePlan:
    """How much is measured."""

    runs: int = 5
    events: int = 100_000
    accounts: int = 10_000
    is_judged: bool = True
    """Whether the run is long enough for the goal, and worth a minute of compiling."""


CORE_QUICK: Final = CorePlan(runs=1, events=3000, accounts=100, is_judged=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One process's figures: processor time, microseconds an event."""

    is_compiled: bool
    decode_us: float
    core_us: float
    digest: str
    """Of everything that the core said."""


def measure_core(plan: CorePlan, say: Callable[[str], None]) -> Report:
    """Run both in turns. Raises ResultsDifferError, ProgramFailedError."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        trees = _trees(Path(name), plan, say)
        shape = machine()
        rounds: list[dict[str, Cost]] = []
        for number in range(1, plan.runs + 1):
            costs = {each: _run(tree, plan) for each, tree in trees.items()}
            for each, cost in costs.items():
                say(f"round {number}: {each} {cost.core_us:.1f} µs, decode {cost.decode_us:.2f} µs")
            rounds.append(costs)
    digests = {cost.digest for costs in rounds for cost in costs.values()}
    if len(digests) != 1:
        raise ResultsDifferError(
            f"expected the same records from every run, got {len(digests)} different results"
        )
    work = {**asdict(plan), "digest": digests.pop()}
    lines = [line for each in trees for line in _lines(each, [costs[each] for costs in rounds], plan)]
    return Report(machine=shape, work=work, lines=lines)


def _trees(directory: Path, plan: CorePlan, say: Callable[[str], None]) -> Mapping[str, Path]:
    """Sources as they are, and a copy of them that is compiled."""
    plain, compiled = directory / "interpreted", directory / "compiled"
    for package in ("pipeline", "schemas"):
        ignored = shutil.ignore_patterns("*.so", "compiled.json", "__pycache__")
        shutil.copytree(SOURCE_TREE / package, plain / package, ignore=ignored)
    if not plan.is_judged:
        return {"interpreted": plain}
    say("compiling the core")
    told = subprocess.run(
        [sys.executable, str(SOURCE_TREE / "deploy" / "compile.py"), "--into", str(compiled)],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode != 0:
        say(f"measured interpreted only: {told.stderr.strip()}")
        return {"interpreted": plain}
    return {"interpreted": plain, "compiled": compiled}


def _run(tree: Path, plan: CorePlan) -> Cost:
    command = [sys.executable, "-m", "tests.bench.core_cost", str(plan.events), str(plan.accounts)]
    told = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tree), str(SOURCE_TREE)))},
        cwd=tree,
        capture_output=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    if told.returncode != 0:
        raise ProgramFailedError(
            f"the core in {tree.name} ended with code {told.returncode}: {told.stderr.decode()}"
        )
    cost = Cost(**orjson.loads(told.stdout))
    assert cost.is_compiled == (tree.name == "compiled"), "another tree was measured than was meant"
    return cost


def _lines(name: str, costs: Sequence[Cost], plan: CorePlan) -> list[Line]:
    cost = Line(
        name=name, title=f"the core, {name}", unit="µs/event", values=tuple(each.core_us for each in costs)
    )
    if not plan.is_judged:
        return [cost]
    decode = tuple(each.decode_us for each in costs)
    ratio = tuple(each.core_us / each.decode_us for each in costs)
    return [
        cost,
        Line(name=f"{name}-decode", title="  orjson's decode beside it", unit="µs/event", values=decode),
        Line(
            name=f"{name}-to-decode",
            title=f"  {name} core to decode",
            unit="×",
            values=ratio,
            limit=CORE_TO_DECODE_MAX,
        ),
    ]


def cost_of(events: int, accounts: int) -> Cost:
    """Fold plain usage, after all accounts are open, and time each batch beside its decoding."""
    log = _log(events, accounts)
    opening = len(log) - events
    core = load_core(Settings(command_key_id="bench", command_keys={"bench": SECRET}))
    state = PartitionState(partition=0, cursor=initial_cursor(core, "bench"))
    _timed(core, state, log[:opening])
    digest, decode_seconds, core_seconds = sha256(), 0.0, 0.0
    gc.collect()
    gc.freeze()
    gc.disable()
    for first in range(opening, len(log), BATCH_ROWS):
        records = log[first : first + BATCH_ROWS]
        values = [each.value or b"" for each in records]
        begun = time.process_time()
        for value in values:
            orjson.loads(value)
        decode_seconds += time.process_time() - begun
        seconds, folded = _timed(core, state, records)
        core_seconds += seconds
        for record in folded.records:
            digest.update(b"%b\0%b\0%b\n" % (record.topic.encode(), record.key, record.value))
        del folded
        gc.collect()
    return Cost(
        is_compiled=runs_compiled(),
        decode_us=decode_seconds / events * 1e6,
        core_us=core_seconds / events * 1e6,
        digest=digest.hexdigest(),
    )


def _timed(core: Core, state: PartitionState, records: Sequence[Logged]) -> tuple[float, Folded]:
    begun = time.process_time()
    batch = Batch(core, state.view())
    batch.feed(records)
    folded = batch.finish()
    seconds = time.process_time() - begun
    state.apply(folded)
    return seconds, folded


def _log(events: int, accounts: int) -> list[Logged]:
    """Plain usage alone: the same decode for all, and every event charged."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("malformed_share", "duplicate_share", "conflict_share", "binary_share", "dry_share", "top_up_share",
         "hold_share", "change_share"), 0.0,
    )  # fmt: skip
    plan = LoadPlan(seed=3, events=events, accounts=accounts, base_ms=START_MS, **nothing)
    key = CommandKey(key_id="bench", secret=bytes.fromhex(SECRET))
    return [
        Logged(offset, START_MS + offset // EVENTS_PER_MS, each.key, each.value, each.headers)
        for offset, each in enumerate(generate(plan, key))
    ]


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(asdict(cost_of(int(sys.argv[1]), int(sys.argv[2])))).decode())
