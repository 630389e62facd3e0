"""`python -m tests.bench.latency.timed_sink`: the sink as it ships, with its steps written to `sink-steps.log`."""

from typing import Final

from pipeline.settings import Settings
from pipeline.sink.worker import run
from tests.bench.holds.timed_worker import write_steps

SINK_STEPS_LOG: Final = "sink-steps.log"
"""As the worker's; the offset is the millisecond after the newest record of the block."""

if __name__ == "__main__":
    deployment = Settings()
    write_steps(deployment, "pipeline.sink.partition.steps", SINK_STEPS_LOG)
    run(deployment)
