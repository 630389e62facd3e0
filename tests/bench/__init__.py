"""The bench: our worker beside the alternatives, on one broker, doing the same work, checked for equal results."""

from tests.bench.measure import ProgramFailedError
from tests.bench.report import COLUMNS, footnote, rows
from tests.bench.run import QUICK, BenchPlan, ResultsDifferError, run_bench

__all__ = [
    "COLUMNS",
    "QUICK",
    "BenchPlan",
    "ProgramFailedError",
    "ResultsDifferError",
    "footnote",
    "rows",
    "run_bench",
]
