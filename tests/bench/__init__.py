"""The bench: our worker beside the alternatives, on one broker, doing the same work, checked for equal results."""

from tests.bench.core_cost import CORE_QUICK, CorePlan, measure_core
from tests.bench.holds.report import HOLD_COLUMNS, hold_footnote, hold_rows
from tests.bench.holds.run import HOLDS_QUICK, HoldsPlan
from tests.bench.holds.start import run_holds
from tests.bench.measure import ProgramFailedError
from tests.bench.report import COLUMNS, footnote, rows
from tests.bench.run import QUICK, BenchPlan, ResultsDifferError, run_bench

__all__ = [
    "COLUMNS",
    "CORE_QUICK",
    "HOLDS_QUICK",
    "HOLD_COLUMNS",
    "QUICK",
    "BenchPlan",
    "CorePlan",
    "HoldsPlan",
    "ProgramFailedError",
    "ResultsDifferError",
    "footnote",
    "hold_footnote",
    "hold_rows",
    "measure_core",
    "rows",
    "run_bench",
    "run_holds",
]
