"""The bench of queries as a table: a line for each question."""

from collections.abc import Sequence

from tests.bench.queries.run import PERCENTILES, AskedQuestion, Cost, QueriesReport
from tests.bench.report import judged, machine_note, shown

QUERY_COLUMNS = (
    "question (ms)",
    *PERCENTILES,
    "p95 of the runs",
    "naively, p50",
    "times as long",
    "p95 goal",
)


def query_rows(asked: Sequence[AskedQuestion]) -> list[tuple[str, ...]]:
    """The table, under `QUERY_COLUMNS`; values are medians over the runs."""
    return [_row(each) for each in asked]


def _row(asked: AskedQuestion) -> tuple[str, ...]:
    p50, p95, p99 = (asked.line(named) for named in PERCENTILES)
    naive = asked.naive_line()
    return (
        asked.question.title,
        *(shown(line.median) for line in (p50, p95, p99)),
        f"{shown(min(p95.values))} – {shown(max(p95.values))}",
        *_of_cost(asked.cost),
        "" if naive is None else f"{shown(naive.median)} ({naive.median / p50.median:.1f} ×)",
        *_of_cost(asked.naive_cost),
        judged(p95),
    )


def _of_cost(cost: Cost | None) -> tuple[str, str]:
    return ("", "") if cost is None else (shown(cost.rows_read), shown(cost.cpu_ms))


def query_footnote(report: QueriesReport) -> str:
    """What stands below the table."""
    plan = report.plan
    sizes = "; ".join(
        f"{each['table']} {each['row_count']:,} rows, {each['bytes'] / 1e6:,.0f} MB, {each['parts']} parts"
        for each in report.tables
    )
    return (
        ("" if plan.is_judged else "Too short for goals: it shows that every question is answered.\n")
        + f"{plan.records:,} records of 60 days, filled in {report.fill_seconds:.0f} s; medians of {plan.runs} runs; "
        "accounts are asked about as often as they are used.\n"
        "Rows read and processor time (ms) are the server's own, on average.\n"
        f"{sizes}.\n" + machine_note(report.machine)
    )
