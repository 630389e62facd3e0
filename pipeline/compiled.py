"""Whether the core runs compiled (`deploy/compile.py`), and whether from the source that stands beside it."""

import json
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from pipeline import metering

STAMP: Final = "compiled.json"
"""Path of a module → SHA-256 of the source that it was built from."""


class StaleCoreError(Exception):
    """The compiled core is another than the source says: whoever reads the one would run the other."""


def runs_compiled() -> bool:
    """Whether the core's modules are compiled. Raises StaleCoreError when their source has changed since."""
    is_compiled = not str(metering.__file__).endswith(".py")
    if is_compiled:
        check_sources(files("pipeline"))
    return is_compiled


def check_sources(package: Traversable) -> None:
    """Raises StaleCoreError unless every source of this package is the one that was compiled."""
    stamp = package.joinpath(STAMP)
    sources: dict[str, str] = json.loads(stamp.read_text()) if stamp.is_file() else {}
    for path, built_from in sources.items():
        source = package.joinpath(*path.split("/")[1:])
        if source.is_file() and sha256(source.read_bytes()).hexdigest() != built_from:
            raise StaleCoreError(
                f"expected the compiled core to be built from {path} as it stands, it has changed since. "
                "Remedy: python3 deploy/setup.py compile, or with --remove to go back to the interpreter"
            )
    if not sources:
        raise StaleCoreError(f"expected pipeline/{STAMP} beside the compiled core, it is missing")
