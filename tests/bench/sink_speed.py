"""The sink beside the worker: how many events a second each of them takes, alone and together.

The worker works off a published input, alone; then the sink stores what it said, alone; then both do the same work
again, side by side, as they run in life. Measured from outside: how far the outcome topics can be read, and how many
rows stand in ClickHouse. In the end every outcome has its row.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import open_client
from pipeline.settings import ClickHouseSettings, Settings
from schemas.topics import LEDGER_ENTRIES, METERED_RECORDS
from tests.bench.holds.run import process
from tests.bench.measure import Look, ProgramFailedError, Speed, run_and_watch, speed_of
from tests.bench.programs import WORKER
from tests.bench.reading import read_to_end
from tests.bench.report import Line, Report
from tests.bench.run import broker, clickhouse, machine
from tests.bench.workload import Workload, begin_run, publish
from tests.integration.sinking import sink_environment
from tests.stack import wait_until

LOOK_SECONDS: Final = 0.05
STORED_SECONDS_MAX: Final = 300
SINK_TO_WORKER_MIN: Final = 1.0
_STORED: Final = "SELECT (SELECT count() FROM metered_records), (SELECT count() FROM ledger_entries)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkPlan:
    """How much is measured."""

    runs: int = 3
    events: int = 200_000
    accounts: int = 10_000
    is_judged: bool = True


SINK_QUICK: Final = SinkPlan(runs=1, events=2000, accounts=40, is_judged=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: events a second, and how long the sink needed after the worker had ended."""

    worker: float
    sink: float
    worker_beside_sink: float
    behind_seconds: float


def run_sink(plan: SinkPlan, say: Callable[[str], None]) -> Report:
    """Measure on servers of its own. Raises ProgramFailedError."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        directory = Path(name)
        say("starting a broker and ClickHouse")
        with broker(directory) as servers, clickhouse(directory) as tables:
            return measure(servers, tables, directory, plan, say)


def measure(
    servers: str, clickhouse: ClickHouseSettings, directory: Path, plan: SinkPlan, say: Callable[[str], None]
) -> Report:
    """Publish the input, then let both work. Databases are named after `clickhouse.database`."""
    shape = machine()
    workload = publish(servers, directory, name="sink", events=plan.events, accounts=plan.accounts)
    rounds: list[Round] = []
    for number in range(1, plan.runs + 1):
        rounds.append(done := _round(workload, clickhouse, number))
        say(
            f"round {number}: worker {done.worker:,.0f} events/s, sink {done.sink:,.0f}; together the worker "
            f"{done.worker_beside_sink:,.0f}, all stored {done.behind_seconds:.2f} s after its end"
        )
    work = {"runs": plan.runs, "events": plan.events, "accounts": plan.accounts, "is_judged": plan.is_judged}
    return Report(machine=shape, work=work, lines=_lines(rounds, plan))


def _round(workload: Workload, clickhouse: ClickHouseSettings, number: int) -> Round:
    alone = _fresh(workload, clickhouse, f"alone-{number}")
    worker = _work(workload, alone)
    with _stored(alone) as rows:
        sink = speed_of(rows.until(_said(alone)), records=workload.records, warm_up=workload.warm_up_records)
    together = _fresh(workload, clickhouse, f"together-{number}")
    with _stored(together) as rows:
        beside = _work(workload, together)
        looks = rows.until(_said(together))
    return Round(
        worker=worker.events_per_second,
        sink=sink.events_per_second,
        worker_beside_sink=beside.events_per_second,
        behind_seconds=max(0.0, looks[-1].at - beside.ended_at),
    )


def _work(workload: Workload, settings: Settings) -> Speed:
    return run_and_watch(WORKER.command, settings, records=workload.records, warm_up=workload.warm_up_records)


def _fresh(workload: Workload, clickhouse: ClickHouseSettings, name: str) -> Settings:
    """Topics and tables in which nothing stands, but the input."""
    begun = begin_run(workload, name)
    own = clickhouse.model_copy(update={"database": f"{clickhouse.database}_{name}".replace("-", "_")})
    settings = begun.model_copy(update={"clickhouse": own})
    migrate(settings)
    return settings


def _said(settings: Settings) -> int:
    """Records and ledger entries: each becomes a row."""
    return sum(1 for _ in read_to_end(settings.kafka, [METERED_RECORDS, LEDGER_ENTRIES]))


class _Rows(threading.Thread):
    """Looks how many rows are stored, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self._settings = settings
        self._looks: list[Look] = []
        self.start()

    def run(self) -> None:
        with closing(open_client(self._settings.clickhouse)) as client:
            while not self.stopped.wait(LOOK_SECONDS):
                (counts,) = client.query(_STORED).result_rows
                self._looks.append(Look(time.monotonic(), sum(counts), 0.0))

    def until(self, rows: int) -> list[Look]:
        """Every look up to the first that saw so many rows; more are an error."""
        wait_until(
            f"{rows} rows are stored, seen {self._looks[-1:]}",
            lambda: bool(self._looks) and self._looks[-1].committed >= rows,
            STORED_SECONDS_MAX,
        )
        looks = list(self._looks)
        if looks[-1].committed > rows:
            raise ProgramFailedError(f"expected {rows} rows, the sink stored {looks[-1].committed}")
        return looks[: 1 + next(index for index, look in enumerate(looks) if look.committed == rows)]


@contextmanager
def _stored(settings: Settings) -> Generator[_Rows, None, None]:
    """A sink, and who watches what it stores."""
    rows = _Rows(settings)
    try:
        with process(settings, "pipeline", "sink", **sink_environment(settings)):
            yield rows
    finally:
        rows.stopped.set()
        rows.join()


def _lines(rounds: Sequence[Round], plan: SinkPlan) -> list[Line]:
    speeds = {
        "worker": ("the worker alone", [each.worker for each in rounds]),
        "sink": ("the sink alone, of what the worker said", [each.sink for each in rounds]),
        "together": ("the worker with the sink beside it", [each.worker_beside_sink for each in rounds]),
    }
    lines = [
        Line(name=name, title=title, unit="events/s", values=tuple(values))
        for name, (title, values) in speeds.items()
    ]
    behind = Line(
        name="behind", title="from the worker's last outcome to its row", unit="s",
        values=tuple(each.behind_seconds for each in rounds),
    )  # fmt: skip
    ratio = Line(
        name="sink-to-worker", title="sink to worker, each alone", unit="×",
        values=tuple(each.sink / each.worker for each in rounds), goal=SINK_TO_WORKER_MIN,
    )  # fmt: skip
    return [*lines, behind, *([ratio] if plan.is_judged else [])]
