"""`python -m tests.bench.holds.timed_worker`: the worker as it ships, with its steps written to `steps.log`."""

import logging
from typing import Final

from pipeline.settings import Settings
from pipeline.stream.worker import run_worker

STEPS_LOG: Final = "steps.log"
"""In the state directory; a line each: epoch seconds, step, partition, offset."""


def _write_steps(settings: Settings) -> None:
    steps = logging.getLogger("pipeline.stream.partition.steps")
    steps.setLevel(logging.DEBUG)
    steps.propagate = False
    handler = logging.FileHandler(settings.home / STEPS_LOG, mode="w")
    handler.setFormatter(logging.Formatter("%(created).6f %(message)s"))
    steps.addHandler(handler)


if __name__ == "__main__":
    deployment = Settings()
    _write_steps(deployment)
    run_worker(deployment)
