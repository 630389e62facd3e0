"""Breaks the rules of the core one at a time and looks which properties go red.

`python -m tests.property.broken_rules [WORD]`: each mutation is made in a copy of the tree, never in this one, and the
tests that it names must fail there, all of them, on the same examples each time. Exit code 1 when one stays green, or
when a rule's text is no longer there. Minutes long, so no part of CI; that each text is still there is
(`tests/contract/test_broken_rules.py`).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Final
from xml.etree import ElementTree  # Of a file that pytest has just written.

from tests.property.rules_to_break import MUTATIONS, Mutation

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("pipeline", "schemas", "tests", "pyproject.toml")
PLUGINS: Final = ("-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin", "-p", "pytest_timeout")
"""All that the properties need; the others take longer to load than a property to fail."""
RUN_SECONDS_MAX: Final = 1200


class UnusableTreeError(Exception):
    """The copy says something else than red or green."""


@dataclass(frozen=True, slots=True)
class Seen:
    mutation: Mutation
    green: tuple[str, ...]
    """Tests that should have gone red, and did not."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="only rules in whose words one of these occurs")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="so many copies side by side")
    asked = parser.parse_args()
    chosen = [each for each in MUTATIONS if not asked.words or any(word in each.rule for word in asked.words)]
    _require_green(chosen)
    survivors = 0
    with ThreadPoolExecutor(asked.at_once) as pool:
        for seen in pool.map(_try, chosen):
            survivors += bool(seen.green)
            verdict = "SURVIVED" if seen.green else "seen red"
            print(verdict, "|", seen.mutation.rule, *seen.green, flush=True)  # noqa: T201
    print(f"{len(chosen) - survivors} of {len(chosen)} rules seen to be guarded")  # noqa: T201
    return 1 if survivors else 0


def _require_green(mutations: Sequence[Mutation]) -> None:
    """A test that is red anyway shows nothing."""
    with tempfile.TemporaryDirectory() as directory:
        tree = _copy(Path(directory))
        red = _red(tree, sorted({test for each in mutations for test in each.red}))
    if red:
        raise UnusableTreeError(f"expected every property to be green with all rules in place, red are {red}")


def _try(mutation: Mutation) -> Seen:
    with tempfile.TemporaryDirectory() as directory:
        tree = _copy(Path(directory))
        path = tree / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise UnusableTreeError(
                f"expected {mutation.old!r} once in {mutation.file}, it is there {text.count(mutation.old)} times"
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        red = _red(tree, mutation.red)
        return Seen(mutation, tuple(each for each in mutation.red if each not in red))


def _copy(directory: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            # With its bytecode, without what mypyc built: that would run in the place of the broken source.
            shutil.copytree(source, directory / part, ignore=shutil.ignore_patterns("*.so", "compiled.json"))
        else:
            shutil.copy(source, directory / part)
    return directory


def _red(tree: Path, tests: Sequence[str]) -> set[str]:
    """Which of the tests fail in the tree. Raises UnusableTreeError when it could not run them all."""
    report = tree / "report.xml"
    named = [f"tests/property/{each}" for each in tests]
    command = [sys.executable, "-m", "pytest", *PLUGINS, f"--junitxml={report}", *named]
    env = {
        **environ,
        "HYPOTHESIS_PROFILE": "red",
        "PYTHONPATH": str(tree),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        command, cwd=tree, env=env, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )
    if done.returncode not in {0, 1}:
        raise UnusableTreeError(
            f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    cases = list(ElementTree.parse(report).iter("testcase"))
    if len(cases) != len(tests):
        raise UnusableTreeError(f"expected {len(tests)} tests to run, {len(cases)} did")
    return {_name(each) for each in cases if each.find("failure") is not None}


def _name(case: ElementTree.Element) -> str:
    module = case.attrib["classname"].rpartition(".")[2]
    return f"{module}.py::{case.attrib['name']}"


if __name__ == "__main__":
    raise SystemExit(main())
