"""Chaos: a deployment under load and faults, both from a seed, and afterwards every record and balance accounted for.

`plan.py` says which faults come, `strikes.py` does them at the programs' crash points, `lanes.py` side by side,
`producers.py` publishes meanwhile as badly as real producers do, `progress.py` watches what is committed and `watch.py`
the processes, `run.py` puts it together and judges, `report.py` is what is left of it.
"""

from pipeline.chaos.plan import ChaosPlan
from pipeline.chaos.report import Audited, ChaosReport
from pipeline.chaos.run import run_chaos

__all__ = ["Audited", "ChaosPlan", "ChaosReport", "run_chaos"]
