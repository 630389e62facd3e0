"""The bench: our worker beside the alternatives, on one broker, doing the same work, checked for equal results."""

from tests.bench.measure import ProgramFailedError
from tests.bench.run import ResultsDifferError
from tests.bench.subjects import Options, run_subject

__all__ = ["Options", "ProgramFailedError", "ResultsDifferError", "run_subject"]
