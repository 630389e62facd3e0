"""`python -m pipeline.example`: the image service, beside a running `creditstream up`.

With `--visits 40` it also sends itself that many visitors, compares what they were given with what the account was
charged, and ends: exit code 0 when both are equal.
"""

import argparse
import sys
import threading
import time
from typing import Final

import uvicorn

from pipeline.client import ClientOptions, Problem, UsageClient
from pipeline.example.jobs import Jobs
from pipeline.example.visits import PRICES, Account, visit
from pipeline.example.web import create_app

HOST: Final = "127.0.0.1"
SOURCE: Final = "/services/example"
START_SECONDS_MAX: Final = 20
SPOOL: Final = ".creditstream/example-spool"


def main() -> int:
    asked = _arguments()
    options = ClientOptions.from_env(SOURCE, spool_directory=asked.spool)
    with UsageClient(options, on_problem=_tell) as client:
        server = uvicorn.Server(
            uvicorn.Config(create_app(Jobs(client)), host=HOST, port=asked.port, log_level="warning")
        )
        print(f"Pictures at http://{HOST}:{asked.port}, for the account {asked.account!r}", flush=True)
        account = Account(options.gateway_url, options.api_key.get_secret_value(), asked.account)
        account.open()
        try:
            if not asked.visits:
                server.run()
                return 0
            return _visited(server, client, account, f"http://{HOST}:{asked.port}", asked.visits)
        finally:
            account.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.example", description=__doc__)
    parser.add_argument("--visits", type=int, default=0, help="send so many visitors, compare, and end")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--account", default="example")
    parser.add_argument("--spool", default=SPOOL, help="directory for events while Kafka is away")
    return parser.parse_args()


def _tell(problem: Problem) -> None:
    print(f"  ! {problem.kind}: {problem.detail}", file=sys.stderr)


def _visited(server: uvicorn.Server, client: UsageClient, account: Account, address: str, visits: int) -> int:
    running = threading.Thread(target=server.run)
    running.start()
    try:
        _wait_for(server)
        before = account.posted()
        tally = visit(address, account.name, visits)
        client.flush(START_SECONDS_MAX)
        charged = account.charged_since(before, tally.credits())
    finally:
        server.should_exit = True
        running.join()
    print(f"{visits} visits, {tally.repeated} of them sent twice")
    for offer, price in PRICES.items():
        finished, failed = tally.finished[offer], tally.failed[offer]
        print(f"  {offer:<12} {finished:>4} pictures × {price}, {failed} failed and not charged")
    print(f"  expected {tally.credits()} credits, charged {charged}")
    return 0 if charged == tally.credits() else 1


def _wait_for(server: uvicorn.Server) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while not server.started:
        assert time.monotonic() < until, f"expected the service to start within {START_SECONDS_MAX} s"
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
