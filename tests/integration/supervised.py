"""A small supervisor as a process of its own, for tests that kill it: `python -m tests.integration.supervised HOME`.

Runs two children that only sleep, says `ready`, and keeps them running until standard input ends.
"""

import sys
from pathlib import Path

from pipeline.local.child import Group, Program
from pipeline.local.home import Home, StackState
from pipeline.local.supervisor import Supervisor
from pipeline.settings import Settings, child_environment

SLEEP = "import time; time.sleep(600)"


def program(home: Home, name: str) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-c", SLEEP),
        environment=child_environment(Settings(home=home.directory)),
        directory=home.directory,
        healthy=lambda: True,
        stage=0,
        stop_seconds_max=5,
    )


def main(directory: Path) -> None:
    home = Home(directory)
    lock = home.lock()
    group = Group(lock.fileno())
    supervisor = Supervisor(group, home.logs, lambda states: home.write_state(StackState(children=states)))
    for name in ("first", "second"):
        supervisor.start(program(home, name))
    print("ready", flush=True)  # noqa: T201  (to the test that waits for it)
    sys.stdin.read()
    supervisor.close()
    group.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
