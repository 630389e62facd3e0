"""`python -m tests.fuzz --count 1000000 --seed 1`: fuzzed inputs; exit code 1 at the first that breaks a rule."""

import argparse
import sys
import time

from tests.fuzz import Found, play
from tests.fuzz.judge import WORLD_RECORDS

TOLD_WORLDS = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="fuzzed inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--validated-share", type=float, default=0.1, help="of what is said, held to its model"
    )
    options = parser.parse_args()
    found, began = Found(), time.monotonic()
    for number, first in enumerate(range(0, options.count, WORLD_RECORDS)):
        size = min(WORLD_RECORDS, options.count - first)
        try:
            play(f"{options.seed}-{number}", size, found, validated_share=options.validated_share)
        except AssertionError as error:
            say(f"broken after {first} inputs: {error}")
            return 1
        if number % TOLD_WORLDS == TOLD_WORLDS - 1:
            say(f"{first + size} inputs, {time.monotonic() - began:.0f} s")
    for name, count in found.outcomes.most_common():
        say(f"{count:>9}  {name}")
    for name, outcomes in sorted(found.spoiled.items()):
        say(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}")
    say(f"{found.outcomes.total()} inputs, each with exactly one outcome")
    say(f"{found.said.total()} records said, {found.validated} of them held to their models")
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
