"""`python -m tests.bench.holds.timed_worker`: the worker as it ships, with its steps written to `steps.log`."""

import logging
from typing import Final

from pipeline.settings import Settings
from pipeline.stream.worker import run_worker

STEPS_LOG: Final = "steps.log"
"""In the state directory; a line each: epoch seconds, step, partition, offset."""


def write_steps(settings: Settings, logger: str, file: str) -> None:
    """Every step that a program notes under this logger, into a file of the state directory."""
    steps = logging.getLogger(logger)
    steps.setLevel(logging.DEBUG)
    steps.propagate = False
    handler = logging.FileHandler(settings.home / file, mode="w")
    handler.setFormatter(logging.Formatter("%(created).6f %(message)s"))
    steps.addHandler(handler)


if __name__ == "__main__":
    deployment = Settings()
    write_steps(deployment, "pipeline.stream.partition.steps", STEPS_LOG)
    run_worker(deployment)
