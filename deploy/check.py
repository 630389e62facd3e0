"""Every check, in one list that people, hooks and CI run: `python3 deploy/setup.py test`.

Those that need no servers come first, side by side. All run, whatever fails; the end says which did.
`python3 deploy/setup.py test ruff mypy` runs only the named.
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

WITHOUT_SERVERS = {
    # The core's tests on the core as mypyc compiles it. One compiler at first, so that there is room beside it.
    "compiled": ["python", "deploy/compile.py", "--test"],
    "mypy": ["mypy"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "imports": ["lint-imports"],
}
"""The long ones first."""
AT_A_TIME = 3
WITH_SERVERS = {
    # Two at a time: the tests mostly wait for servers, which each worker has of its own or shares. Long files first,
    # as their folders come, so that none is left to one worker at the end.
    "tests": ["pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"],
}
CHECKS = WITHOUT_SERVERS | WITH_SERVERS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Any of these looks at the account pages; `tests/browser.py` knows the same names."""
BROWSER_SECONDS_MAX = 600


def main(names: list[str]) -> int:
    unknown = set(names) - set(CHECKS)
    if unknown:
        print(f"expected names of {', '.join(CHECKS)}, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    began = time.monotonic()
    if not names or "tests" in names:
        find_browser()
    chosen = names or list(CHECKS)
    first = [name for name in WITHOUT_SERVERS if name in chosen]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = dict(zip(first, pool.map(run_beside, first), strict=True))
    outcomes |= {name: run(name) for name in WITH_SERVERS if name in chosen}
    print(f"\n{time.monotonic() - began:.0f} s in all")
    failed = [name for name, passed in outcomes.items() if not passed]
    print(f"FAILED: {', '.join(failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


def find_browser() -> None:
    """Installs Debian's chromium where that is possible without asking: as root, with apt. Says so where it is not."""
    if any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("\n── chromium is missing: apt-get install chromium", flush=True)
        if installs("update") and installs("install", "-y", "--no-install-recommends", "chromium"):
            return
    print(
        "\n── NOT RUN: the account pages are not looked at in a browser, there is no chromium here.\n"
        "   Remedy: `apt-get install chromium`, or any chromium on the path.",
        flush=True,
    )


def installs(*arguments: str) -> bool:
    """Whether apt-get did it."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}  # noqa: TID251  (apt's own switch)
    command = ["apt-get", "-q", *arguments]
    try:
        return subprocess.run(
            command, env=environment, check=False, stdout=subprocess.DEVNULL, timeout=BROWSER_SECONDS_MAX
        ).returncode == 0  # fmt: skip
    except subprocess.TimeoutExpired:
        return False


def run_beside(name: str) -> bool:
    """Run a check beside others; what it says is shown at its end, in one piece."""
    tool, *arguments = CHECKS[name]
    began = time.monotonic()
    command = [BIN / tool, *arguments]
    told = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    passed = told.returncode == 0
    print(
        f"\n── {name}: {tool} {' '.join(arguments)}\n{told.stdout}{ended(name, began, passed=passed)}",
        flush=True,
    )
    return passed


def run(name: str) -> bool:
    """Run a check that has the machine to itself; what it says is shown at once."""
    tool, *arguments = CHECKS[name]
    print(f"\n── {name}: {tool} {' '.join(arguments)}", flush=True)
    began = time.monotonic()
    passed = subprocess.run([BIN / tool, *arguments], cwd=ROOT, check=False).returncode == 0
    print(ended(name, began, passed=passed), flush=True)
    return passed


def ended(name: str, began: float, *, passed: bool) -> str:
    return f"── {name}: {'ok' if passed else 'FAILED'} in {time.monotonic() - began:.1f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
