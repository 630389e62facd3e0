"""Sets everything up on a machine that has Python 3.11–3.13 and nothing else, then runs what was asked for.

    python3 deploy/setup.py demo    install, then run the pipeline once with real usage and show what happened
    python3 deploy/setup.py test    install with the tools, then run every check (deploy/check.py)
    python3 deploy/setup.py install install only; then `.venv/bin/creditstream --help`
    python3 deploy/setup.py compile install with the tools, then compile the core's hot modules (deploy/compile.py)

Standard library only: it runs before anything is installed. Installs from the lock, every file checked by its hash.
What is installed already is not installed again.
"""

from __future__ import annotations  # So that an old Python reaches the message that it is too old.

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PYTHON_MIN, PYTHON_MAX = (3, 11), (3, 13)
DISK_BYTES_MIN = 3_000_000_000
DOWNLOAD = "about 0.4 GB (ClickHouse's engine is half of it, a Java runtime, Kafka's jars)"
PIP_ATTEMPTS_MAX = 2
"""A broken connection is worth a second try: pip's cache keeps what has arrived."""

LINES_SHOWN = 30
"""Of a step that failed."""

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Containers often set it. Then each of a dozen programs compiles all that it imports at each of its starts: the worker
took 3.7 s of processor time to start instead of 1.7."""

LOCKS = {"demo": "run.txt", "install": "run.txt", "test": "dev.txt", "compile": "dev.txt"}


class SetupError(Exception):
    """What is wrong with this machine, and the remedy."""


def main(arguments: list[str]) -> int:
    if len(arguments) < 1 or arguments[0] not in LOCKS:
        print(__doc__)
        return 2
    what, further = arguments[0], arguments[1:]
    os.environ.pop(NO_BYTECODE, None)  # noqa: TID251  (Python's own switch)
    try:
        check_machine()
        install(ROOT / "deploy" / "lock" / LOCKS[what])
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run the same command again, it goes on from there.", file=sys.stderr)
        return 130
    sys.stdout.flush()
    if what == "demo":
        become(VENV / "bin" / "creditstream", "demo", *further)
    if what == "test":
        become(PYTHON, str(ROOT / "deploy" / "check.py"), *further)
    if what == "compile":
        become(PYTHON, str(ROOT / "deploy" / "compile.py"), *further)
    return 0


def become(program: Path, *arguments: str) -> None:
    """The program takes this process's place: signals and exit code are its own."""
    os.execv(program, [str(program), *arguments])  # noqa: S606


def check_machine() -> None:
    """Everything that would otherwise fail later and less clearly."""
    check_python()
    check_platform()
    if PYTHON.exists():
        return
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "expected Python's venv and ensurepip, this Python lacks them. "
            "Remedy: on Debian and Ubuntu `apt install python3-venv`."
        )
    free = shutil.disk_usage(ROOT).free
    if free < DISK_BYTES_MIN:
        raise SetupError(
            f"expected {DISK_BYTES_MIN / 1e9:.0f} GB free for {ROOT}, got {free / 1e9:.1f} GB. Remedy: free some space."
        )


def check_python() -> None:
    found = sys.version_info[:2]
    if PYTHON_MIN <= found <= PYTHON_MAX and platform.python_implementation() == "CPython":
        return
    others = [f"python3.{minor}" for minor in (13, 12, 11) if shutil.which(f"python3.{minor}")]
    remedy = f"run `{others[0]} deploy/setup.py …`" if others else "install one of them"
    raise SetupError(
        f"expected CPython 3.11, 3.12 or 3.13, got {platform.python_implementation()} "
        f"{platform.python_version()}. Remedy: {remedy}."
    )


def check_platform() -> None:
    system, machine = platform.system(), platform.machine().lower()
    known = system in {"Linux", "Darwin"} and machine in {"x86_64", "amd64", "aarch64", "arm64"}
    if not known:
        raise SetupError(
            f"expected Linux or macOS on x86-64 or ARM64, got {system} on {machine}: ClickHouse's engine has no wheel "
            "for it. Remedy: on Windows use WSL 2; else run against external servers, see README.md."
        )
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        raise SetupError(
            "expected a Linux with glibc, this one has another C library (musl, as in Alpine): ClickHouse's engine and "
            "the Java runtime have no wheel for it. Remedy: a Debian, Ubuntu or Fedora (container)."
        )


def install(lock: Path) -> None:
    """Makes `.venv` equal to the lock, with this project in it. The stamp says which lock it equals."""
    stamp = VENV / f"installed-{lock.stem}"
    wanted = fingerprint(lock)
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"Setting up {VENV}: on a first run this downloads {DOWNLOAD}.", flush=True)
    began = time.monotonic()
    if not PYTHON.exists() or made_by() != version():
        step("a virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    step(
        f"the packages of {lock.name}, each checked by its hash",
        # Python compiles what it imports; all that is never imported would take a third of the time.
        [*pip("install"), "--no-compile", "--require-hashes", "--only-binary", ":all:", "-r", str(lock)],
        attempts=PIP_ATTEMPTS_MAX,
    )
    step(
        "this project", [*pip("install"), "--no-deps", "--no-build-isolation", "--no-index", "-e", str(ROOT)]
    )
    stamp.write_text(wanted)
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)


def fingerprint(lock: Path) -> str:
    """Of everything that decides what is installed."""
    digest = hashlib.sha256(version().encode())
    for path in (lock, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def version() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def made_by() -> str:
    """The Python of the virtual environment; empty when its making was interrupted."""
    told = subprocess.run(
        [str(PYTHON), "-c", "import pip, sys; print(*sys.version_info[:2], sep='.')"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() if told.returncode == 0 else ""


def pip(command: str) -> list[str]:
    # pip's own settings of this machine (indexes, proxies, certificates) apply by themselves.
    return [str(PYTHON), "-m", "pip", command, "--disable-pip-version-check", "--no-input"]


def step(what: str, command: list[str], attempts: int = 1) -> None:
    """One phase, with its name, its larger downloads as they begin, and its time; all it says when it fails."""
    print(f"  → {what}", flush=True)
    began = time.monotonic()
    said: list[str] = []
    for _ in range(attempts):
        if run(command, said) == 0:
            print(f"    done in {time.monotonic() - began:.0f} s", flush=True)
            return
    print("".join(said[-LINES_SHOWN:]), file=sys.stderr)
    raise SetupError(
        f"could not install {what}; the reason is above. Remedies: no network → check the connection or pip's proxy "
        "settings (`pip config list`); no matching distribution → this platform has no wheel for it (README.md); "
        "no space → 3 GB are needed. Then run the same command again, it goes on from there."
    )


def run(command: list[str], said: list[str]) -> int:
    """Runs it, shows the lines of large downloads, keeps all in `said`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if line.lstrip().startswith("Downloading ") and "MB)" in line:
                print(f"    {line.strip()}", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
