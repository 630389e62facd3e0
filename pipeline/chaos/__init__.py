"""Chaos: a deployment under load and faults, both from a seed, and afterwards every record and balance accounted for.

`plan.py` says which faults come, `strikes.py` does them at the programs' crash points, `producers.py` publishes
meanwhile as badly as real producers do, `progress.py` watches what is committed, `run.py` puts it together.
"""

from pipeline.chaos.plan import ChaosPlan
from pipeline.chaos.run import Audited, ChaosReport, run_chaos

__all__ = ["Audited", "ChaosPlan", "ChaosReport", "run_chaos"]
