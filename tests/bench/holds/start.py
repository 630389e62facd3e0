"""`creditstream bench holds`: a broker of its own, then every scenario."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.holds.report import HoldsReport
from tests.bench.holds.run import HoldsPlan, measure
from tests.bench.run import broker, machine


def run_holds(plan: HoldsPlan, say: Callable[[str], None]) -> HoldsReport:
    """Measure on a broker of its own."""
    with tempfile.TemporaryDirectory(prefix="creditstream-bench-") as name:
        say("starting a broker")
        shape = machine()
        with broker(Path(name)) as servers:
            return HoldsReport(machine=shape, plan=plan, measured=measure(servers, Path(name), plan, say))
