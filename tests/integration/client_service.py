"""A service for tests: records usage as fast as it may, writes down each event that was acknowledged, until killed.

python -m tests.integration.client_service OPTIONS_FILE ACKNOWLEDGED_FILE FIRST_NUMBER ACCOUNTS
"""

import os
import sys
from functools import partial
from itertools import count
from pathlib import Path

from pipeline.client import ClientOptions, Receipt, UsageClient, image_analysis


def main(options_file: str, acknowledged_file: str, first_number: str, accounts: str) -> None:
    """A line an event, in one write each, so that a killed process leaves whole lines."""
    told = os.open(acknowledged_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write_down(number: int, receipt: Receipt, _acknowledged: object) -> None:
        if receipt.acknowledged.exception() is None:
            os.write(told, f"{number} {receipt.event_id}\n".encode())

    client = UsageClient(ClientOptions.model_validate_json(Path(options_file).read_bytes()))
    for number in count(int(first_number)):
        receipt = client.record(f"acct-{number % int(accounts)}", image_analysis(number=number))
        receipt.acknowledged.add_done_callback(partial(write_down, number, receipt))


if __name__ == "__main__":
    main(*sys.argv[1:])
