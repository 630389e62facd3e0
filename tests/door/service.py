"""A service that is killed: records usage and runs jobs with holds, and writes down what it was told of each.

python -m tests.door.service OPTIONS_FILE TOLD_FILE FIRST_NUMBER ACCOUNTS
"""

import os
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Final
from zlib import crc32

from pipeline.client import (
    ClientOptions,
    GatewayAwayError,
    HoldRefusedError,
    Receipt,
    UsageClient,
    image_analysis,
    image_generation,
)

EVENT_SECONDS: Final = 0.002
"""Between two events, so that the log stays readable."""
JOB_SECONDS: Final = 0.02
IMAGES_MAX: Final = 6
HOLD_SECONDS: Final = 3600
"""Longer than a run: what a killed service held stays held, and the auditor sees it."""


class JobFailedError(Exception):
    """A job of which nothing came out."""


def images_of(job: str) -> int:
    """How many images a job asks for."""
    return 1 + crc32(job.encode()) % IMAGES_MAX


def finished_of(job: str) -> int:
    """How many of them are finished, the same whoever asks: one in four fails, and of one job in eight all are lost."""
    if is_lost(job):
        return 0
    return sum(crc32(f"{job}/{image}".encode()) % 4 != 0 for image in range(images_of(job)))


def is_lost(job: str) -> bool:
    return crc32(f"lost {job}".encode()) % 8 == 0


def work(job: str) -> None:
    if is_lost(job):
        raise JobFailedError(job)


class Told:
    """What the service knows, a line each in one write, so that a killed process leaves whole lines."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, number: object, name: str) -> None:
        os.write(self._file, f"{kind} {number} {name}\n".encode())

    def of_event(self, number: int, receipt: Receipt, _acknowledged: object) -> None:
        is_refused = receipt.acknowledged.exception() is not None
        self.write("refused" if is_refused else "event", number, receipt.event_id)


def run_jobs(client: UsageClient, told: Told, first_number: int, accounts: int) -> None:
    """One after the other, without end. What the gateway refuses or is away for is not done."""
    for number in count(first_number):
        job = f"job-{number}"
        usage = image_generation(quality="medium", width=1024, height=1024, images=images_of(job), job=job)
        try:
            with client.hold(f"acct-{number % accounts}", usage, hold_id=job, seconds=HOLD_SECONDS) as hold:
                work(job)
                hold.done(finished_of(job))
            assert hold.ending is not None, "the block has ended"
            told.write(hold.ending.outcome, number, job)
        except (JobFailedError, GatewayAwayError, HoldRefusedError):
            told.write("undone", number, job)
        time.sleep(JOB_SECONDS)


def main(options_file: str, told_file: str, first_number: str, accounts: str) -> None:
    """Until it is killed."""
    told = Told(told_file)
    client = UsageClient(ClientOptions.model_validate_json(Path(options_file).read_bytes()))
    jobs = Thread(target=run_jobs, args=(client, told, int(first_number), int(accounts)), daemon=True)
    jobs.start()
    for number in count(int(first_number)):
        receipt = client.record(f"acct-{number % int(accounts)}", image_analysis(number=number))
        receipt.acknowledged.add_done_callback(partial(told.of_event, number, receipt))
        time.sleep(EVENT_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
