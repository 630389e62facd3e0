"""Runs the bench of queries: fills a database, then asks every question in turns, as the read-only analyst does."""

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import Client, open_analyst, open_client
from pipeline.client.origin import now
from pipeline.settings import Settings
from tests.bench.holds.stages import percentile
from tests.bench.queries.fill import RECORDS_AN_ACCOUNT, Fleet, fill, found
from tests.bench.queries.questions import Ask, Question, Subject, questions
from tests.bench.report import Line
from tests.bench.run import ResultsDifferError, clickhouse, machine

SEED: Final = 7
WARM_UP_ASKS: Final = 3
INSERT_SECONDS_MAX: Final = 300
PERCENTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
FEW_RECORDS: Final = 10_000_000
"""Goals are for so many records; an account's for more, too."""
P95_MS_MAX: Final[Mapping[str, int]] = {"account": 20, "board": 50, "fleet": 200}
ACCOUNT_OF_MANY_P95_MS_MAX: Final = 50
LOGGED_AS: Final = "log_comment"
NAIVELY: Final = "naively: "
_COSTS: Final = """
SELECT log_comment, sum(ProfileEvents['OSCPUVirtualTimeMicroseconds']) AS cpu_us, sum(read_rows) AS row_count
FROM system.query_log
WHERE type = 'QueryFinish' AND current_database = currentDatabase() AND log_comment != ''
GROUP BY log_comment
"""
_SIZES: Final = """
SELECT table, toUInt64(sum(rows)) AS row_count, toUInt64(sum(bytes_on_disk)) AS bytes, count() AS parts
FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table ORDER BY bytes DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriesPlan:
    """How much is asked, of how much."""

    runs: int = 3
    records: int = FEW_RECORDS
    asks: Mapping[str, int] = field(default_factory=lambda: {"account": 200, "board": 30, "fleet": 30})
    """Of each question in a run, by its group: each about another account, drawn as often as it is used."""
    naive_asks: int = 5
    chosen: int = 1
    """Accounts that are picked on the board."""
    is_judged: bool = True


QUERIES_QUICK: Final = QueriesPlan(
    runs=1, records=3000, asks={"account": 2, "board": 1, "fleet": 1}, naive_asks=1, is_judged=False
)


class Cost(NamedTuple):
    """What an ask cost the server, on average, by its own log. A busy machine moves it less than the clock."""

    cpu_ms: float
    rows_read: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """One question: milliseconds of every ask, by run, until its last row was read."""

    question: Question
    runs: Sequence[Sequence[float]]
    naive: Sequence[float]
    limit_ms: float | None
    cost: Cost
    naive_cost: Cost | None

    def line(self, named: str) -> Line:
        """A percentile, of every run."""
        return Line(
            name=f"{self.question.name}-{named}",
            title=f"{self.question.title}, {named}",
            unit="ms",
            values=tuple(percentile(each, PERCENTILES[named]) for each in self.runs),
            limit=self.limit_ms if named == "p95" else None,
        )

    def naive_line(self) -> Line | None:
        """The naive way, its median."""
        if not self.naive:
            return None
        name, title = f"{self.question.name}-naive", f"{self.question.title}, naively"
        return Line(name=name, title=title, unit="ms", values=tuple(self.naive))

    def lines(self) -> list[Line]:
        naive, costs = self.naive_line(), {"": self.cost, "-naive": self.naive_cost}
        return [
            *map(self.line, PERCENTILES),
            *([] if naive is None else [naive]),
            *(
                Line(name=f"{self.question.name}{which}-{name}", title=f"{self.question.title}, {name}{which}",
                     unit=unit, values=(value,))
                for which, cost in costs.items()
                if cost is not None
                for name, unit, value in (("processor", "ms", cost.cpu_ms), ("rows read", "rows", cost.rows_read))
            ),
        ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriesReport:
    """The result of one bench of queries."""

    machine: dict[str, Any]
    plan: QueriesPlan
    fill_seconds: float
    tables: Sequence[Mapping[str, Any]]
    """Name, rows, bytes on disk and parts of each."""
    asked: Sequence[AskedQuestion]

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "work": {
                "records": self.plan.records,
                "runs": self.plan.runs,
                "is_judged": self.plan.is_judged,
                "fill_seconds": self.fill_seconds,
                "tables": self.tables,
            },
            "lines": [line.as_json() for each in self.asked for line in each.lines()],
        }


def run_queries(plan: QueriesPlan, say: Callable[[str], None]) -> QueriesReport:
    """Measure on a ClickHouse of its own. Raises ResultsDifferError."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        home = Path(name)
        with clickhouse(home) as settings:
            patient = settings.model_copy(update={"insert_timeout_seconds": INSERT_SECONDS_MAX})
            return measure(Settings(home=home, clickhouse=patient), plan, say)


def measure(settings: Settings, plan: QueriesPlan, say: Callable[[str], None]) -> QueriesReport:
    """Fill an empty database and ask."""
    shape = machine()
    migrate(settings)
    fleet = Fleet(
        records=plan.records, accounts=max(plan.records // RECORDS_AN_ACCOUNT, plan.chosen), until_ms=now()
    )
    with (
        closing(open_client(settings.clickhouse)) as owner,
        closing(open_analyst(settings.clickhouse)) as analyst,
    ):
        say(f"filling {plan.records:,} records of {fleet.accounts:,} accounts")
        begun = time.monotonic()
        fill(owner, fleet, say)
        seconds = time.monotonic() - begun
        tables = list(owner.query(_SIZES).named_results())
        say(f"filled in {seconds:.0f} s")
        return QueriesReport(
            machine=shape,
            plan=plan,
            fill_seconds=seconds,
            tables=tables,
            asked=_ask_all(
                (owner, analyst),
                _subjects(owner, fleet, plan),
                questions(fleet, _chosen(fleet, plan)),
                plan,
                say,
            ),
        )


def _subjects(owner: Client, fleet: Fleet, plan: QueriesPlan) -> list[Subject]:
    draw = random.Random(SEED)
    numbers = [draw.randrange(fleet.records) for _ in range(max(plan.asks.values()))]
    return [Subject(*each) for each in found(owner, fleet, numbers)]


def _chosen(fleet: Fleet, plan: QueriesPlan) -> list[str]:
    return [f"account-{number * fleet.accounts // plan.chosen // 2:07d}" for number in range(plan.chosen)]


def _ask_all(
    clients: tuple[Client, Client],
    subjects: Sequence[Subject],
    asked: Sequence[Question],
    plan: QueriesPlan,
    say: Callable[[str], None],
) -> list[AskedQuestion]:
    owner, client = clients
    runs: dict[str, list[list[float]]] = {question.name: [] for question in asked}
    for number in range(1, plan.runs + 1):
        for question in asked:
            for subject in subjects[:WARM_UP_ASKS]:
                question.ask(client, subject)
            client.set_client_setting(LOGGED_AS, question.name)
            runs[question.name].append(
                [_timed(question.ask, client, subject) for subject in subjects[: plan.asks[question.group]]]
            )
            client.set_client_setting(LOGGED_AS, "")
        say(f"run {number} of {plan.runs}")
    naive = {question.name: _naively(question, client, subjects[: plan.naive_asks]) for question in asked}
    sums = _logged(owner)
    return [
        AskedQuestion(
            question=question,
            runs=runs[question.name],
            naive=naive[question.name],
            limit_ms=_limit(question.group, plan),
            cost=_cost(sums[question.name], plan.runs * len(runs[question.name][0])),
            naive_cost=None
            if question.naive is None
            else _cost(sums[NAIVELY + question.name], len(naive[question.name])),
        )
        for question in asked
    ]


def _logged(owner: Client) -> dict[str, tuple[int, int]]:
    owner.command("SYSTEM FLUSH LOGS")
    return {str(name): (int(cpu_us), int(rows)) for name, cpu_us, rows in owner.query(_COSTS).result_rows}


def _cost(sums: tuple[int, int], asks: int) -> Cost:
    return Cost(sums[0] / asks / 1000, sums[1] / asks)


def _naively(question: Question, client: Client, subjects: Sequence[Subject]) -> list[float]:
    """The same subjects, and the same rows."""
    if question.naive is None:
        return []
    for subject in subjects[:1]:
        expected, got = question.naive(client, subject), question.ask(client, subject)
        if got != expected:
            raise ResultsDifferError(f"{question.title} of {subject.account}: expected {expected}, got {got}")
    client.set_client_setting(LOGGED_AS, NAIVELY + question.name)
    taken = [_timed(question.naive, client, subject) for subject in subjects]
    client.set_client_setting(LOGGED_AS, "")
    return taken


def _timed(ask: Ask, client: Client, subject: Subject) -> float:
    begun = time.perf_counter()
    ask(client, subject)
    return (time.perf_counter() - begun) * 1000


def _limit(group: str, plan: QueriesPlan) -> float | None:
    if not plan.is_judged:
        return None
    if plan.records <= FEW_RECORDS:
        return P95_MS_MAX[group]
    return ACCOUNT_OF_MANY_P95_MS_MAX if group == "account" else None
