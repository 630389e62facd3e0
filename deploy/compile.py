"""Compiles the core's hot modules with mypyc, from the same source, in place: an option, nothing needs it.

    python3 deploy/setup.py compile            build them beside their sources; every program then runs them
    python3 deploy/setup.py compile --remove   back to the interpreter
    python3 deploy/setup.py compile --test     build in a copy, and run the core's tests on what was built
    python3 deploy/setup.py compile --into DIR build in a copy that stays, for the bench
    python deploy/compile.py --beside DIR      build them beside the same sources installed in DIR, for the image

Needs a C compiler and Python's headers. `pipeline/compiled.json` says which source each was built from; a core whose
source has changed since does not start (`pipeline/compiled.py`).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = Path("pipeline", "compiled.json")
BUILD_SECONDS_MAX = 900
OPTIMISED, QUICKLY_BUILT = "2", "0"
"""gcc's levels. What mypyc makes of the source, and the tests judge, is the same at each."""
MODULES = (
    *[
        f"pipeline/domain/{name}.py"
        for name in ("account", "alerts", "credits", "grants", "instants", "ledger", "rating", "topup", "usage")
    ],
    *[f"pipeline/emit/{name}.py" for name in ("accounts", "records", "usage")],
    *[
        f"pipeline/{name}.py"
        for name in (
            "metering", "state", "usage_rules", "validate", "validate_data", "validate_usage", "work",
        )
    ],
)  # fmt: skip
"""What every usage event passes through. The rest gains nothing: it runs once a command or once a batch."""
TESTS = ("tests/property", "tests/simulation")
SIMULATION_SEEDS = "50"
HYPOTHESIS_PROFILE = "brief"
"""Fewer worlds and examples than for the interpreted core, which has passed them: here only the build may differ."""
BUILD = """
import sys
from setuptools import setup
from mypyc.build import mypycify
sys.argv = ["setup", "build_ext", "--inplace"]
modules = mypycify([*%r, "--config-file", "mypyc.ini"], opt_level=%r, debug_level="0")
setup(name="core", packages=[], ext_modules=modules)
"""
MYPY = """[mypy]
plugins = pydantic.mypy
follow_imports = silent
ignore_missing_imports = True
"""


class CompileError(Exception):
    """What is missing, and the remedy."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="setup.py compile", description="Compile the core's hot modules with mypyc."
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--remove", action="store_true", help="back to the interpreter")
    one.add_argument("--test", action="store_true", help="build in a copy, and run the core's tests on it")
    one.add_argument(
        "--into", type=Path, metavar="DIR", help="build in a copy there, which must not exist yet"
    )
    one.add_argument(
        "--beside", type=Path, metavar="DIR", help="build them beside the sources installed there"
    )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.remove:
            remove(ROOT)
        elif chosen.test:
            return test()
        elif chosen.into:
            build(chosen.into)
        else:
            compile_beside(chosen.beside or ROOT)
    except CompileError as error:
        print(f"compile: {error}", file=sys.stderr)
        return 1
    return 0


def compile_beside(tree: Path) -> None:
    """Build in a copy, so that a build that fails changes nothing; then bring what was built."""
    with tempfile.TemporaryDirectory(prefix="creditstream-compile-") as name:
        copy = Path(name, "tree")
        build(copy)
        remove(tree)
        for path in built(copy):
            shutil.copy2(path, tree / path.relative_to(copy))
        shutil.copy2(copy / STAMP, tree / STAMP)
    if tree == ROOT:
        print("The core runs compiled. Back: python3 deploy/setup.py compile --remove")


def remove(tree: Path) -> None:
    for path in (*built(tree), tree / STAMP):
        path.unlink(missing_ok=True)


def test() -> int:
    """The same tests on the compiled core. Says so and passes where there is no C compiler."""
    if missing := tools_missing():
        print(f"compiled core: NOT TESTED, {missing}")
        return 0
    with tempfile.TemporaryDirectory(prefix="creditstream-compile-") as name:
        copy = Path(name, "tree")
        build(copy, QUICKLY_BUILT)
        for each in ("tests", "deploy", "pyproject.toml"):
            source = ROOT / each
            shutil.copytree(source, copy / each) if source.is_dir() else shutil.copy2(source, copy / each)
        environment = {  # What `os.environ` has is for Python and pytest: nothing of ours is read.
            **os.environ,  # noqa: TID251
            "PYTHONPATH": str(copy),
            "CREDITSTREAM_SIMULATION_SEEDS": SIMULATION_SEEDS,
            "HYPOTHESIS_PROFILE": HYPOTHESIS_PROFILE,
        }
        is_compiled = "from pipeline.compiled import runs_compiled; assert runs_compiled()"
        subprocess.run([sys.executable, "-c", is_compiled], cwd=copy, env=environment, check=True)
        tests = [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *TESTS]
        return subprocess.run(tests, cwd=copy, env=environment, check=False).returncode


def build(copy: Path, level: str = OPTIMISED) -> None:
    """The program's sources and the compiled modules beside them, in `copy`."""
    if missing := tools_missing():
        raise CompileError(missing)
    began = time.monotonic()
    copy.mkdir(parents=True)
    for package in ("pipeline", "schemas"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (copy / "mypyc.ini").write_text(MYPY)
    told = subprocess.run(
        [sys.executable, "-c", BUILD % (MODULES, level)],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    if told.returncode != 0:
        raise CompileError(f"mypyc could not compile the core:\n{told.stdout[-4000:]}\n{told.stderr[-4000:]}")
    shutil.rmtree(copy / "build")
    sources = {each: sha256((copy / each).read_bytes()).hexdigest() for each in MODULES}
    (copy / STAMP).write_text(json.dumps(sources, indent=1) + "\n")
    print(
        f"Compiled {len(MODULES)} modules in {time.monotonic() - began:.0f} s.", file=sys.stderr, flush=True
    )


def built(tree: Path) -> list[Path]:
    """The extension modules: one with all the code at the top, and a small one beside each source."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return [*tree.glob(f"*__mypyc{suffix}"), *(tree / "pipeline").rglob(f"*{suffix}")]


def tools_missing() -> str:
    """What this machine lacks to compile, with the remedy; empty if nothing."""
    compiler = os.environ.get("CC", "cc")  # noqa: TID251  (as every build reads it)
    if shutil.which(compiler) is None:
        return f"expected a C compiler {compiler!r} on PATH. Remedy: on Debian and Ubuntu `apt install gcc`"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        return f"expected Python's headers, {header}. Remedy: on Debian and Ubuntu `apt install python3-dev`"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
