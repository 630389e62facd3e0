"""Every check, in one list that people, hooks and CI run: `python3 deploy/setup.py test`.

Quick checks come first. All run, whatever fails; the end says which did and how long each took.
`python3 deploy/setup.py test ruff mypy` runs only the named.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "imports": ["lint-imports"],
    "mypy": ["mypy"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
    # Two at a time: the tests mostly wait for servers, which each worker has of its own or shares.
    "tests": ["pytest", "-n", "2", "--dist", "loadfile"],
    # The core's tests once more, on the core as mypyc compiles it.
    "compiled": ["python", "deploy/compile.py", "--test"],
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(CHECKS)
    if unknown:
        print(f"expected names of {', '.join(CHECKS)}, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    began = time.monotonic()
    outcomes = {name: run(name) for name in names or CHECKS}
    print(f"\n{time.monotonic() - began:.0f} s in all")
    failed = [name for name, passed in outcomes.items() if not passed]
    print(f"FAILED: {', '.join(failed)}" if failed else "All checks passed.")
    return 1 if failed else 0


def run(name: str) -> bool:
    tool, *arguments = CHECKS[name]
    print(f"\n── {name}: {tool} {' '.join(arguments)}", flush=True)
    began = time.monotonic()
    passed = subprocess.run([BIN / tool, *arguments], cwd=ROOT, check=False).returncode == 0
    print(f"── {name}: {'ok' if passed else 'FAILED'} in {time.monotonic() - began:.1f} s", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
