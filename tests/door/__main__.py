"""`python -m tests.door --seed 7`: kills and an outage under load; exit code 1 when anything is lost or mischarged."""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from tests.door.run import Plan, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.door", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="of the service, and as many of the gateway")
    parser.add_argument("--outage-seconds", type=float, default=120)
    parser.add_argument(
        "--outage-by", choices=("kill", "sleep"), default="kill", help="what is done to the broker"
    )
    parser.add_argument("--report", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        kills=given.kills,
        outage_seconds=given.outage_seconds,
        outage_by=given.outage_by,
    )
    began = time.monotonic()
    directory = Path(mkdtemp(prefix="creditstream-door-"))
    verdict = run(plan, directory, lambda line: say(f"{time.monotonic() - began:6.1f} s  {line}"))
    for name, figure in verdict.counts.items():
        say(f"{figure:>9}  {name}")
    if given.report is not None:
        found = {"seed": plan.seed, "counts": verdict.counts, "faults": verdict.faults}
        given.report.write_text(json.dumps(found, indent=2))
    for what, names in verdict.faults.items():
        say(f"{what}: {', '.join(names)}")
    if verdict.faults:
        say(f"All of it is kept in {directory}")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
