"""Apache Kafka's own jars, in the user's cache, each equal to the committed lock.

A jar gets its name in the directory only after its SHA-256 has been compared, and every start compares again;
so an interrupted download leaves nothing that could be run, and the next one fetches only what is missing.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import platformdirs

from pipeline.local import LocalStackError

KAFKA_VERSION: Final = "4.2.2"
"""Not the newest: 4.3 and 4.4 forget the commit of a partition that has no leader just then (KAFKA-20734)."""
LOCK: Final = Path(__file__).with_name("kafka-jars.lock")
POM: Final = Path(__file__).with_name("kafka-pom.xml")
MAVEN_TIMEOUT_SECONDS: Final = 300
DOWNLOAD_TIMEOUT_SECONDS: Final = 60
DOWNLOADS_AT_ONCE: Final = 4


class JarsError(LocalStackError):
    """The jars cannot be had: its message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


Fetch = Callable[[Sequence[Jar], Path], None]


def jars_directory() -> Path:
    """Where the jars of this version stand, shared by all deployments of the user."""
    return platformdirs.user_cache_path("creditstream") / "kafka" / KAFKA_VERSION


def locked_jars() -> list[Jar]:
    """What the lock names."""
    jars: list[Jar] = []
    for line in LOCK.read_text().splitlines():
        if line.startswith("#"):
            continue
        coordinate, sha256, size = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group=group, artifact=artifact, version=version, sha256=sha256, size_bytes=int(size)))
    return jars


def ensure_jars(directory: Path | None = None) -> Path:
    """The directory with all jars of the lock, verified; fetches what is missing."""
    directory = directory or jars_directory()
    directory.mkdir(parents=True, exist_ok=True)
    with _only_one(directory):
        missing = missing_jars(directory)
        for fetch in _ways():
            if not missing:
                break
            missing = _fetched_by(fetch, missing, directory)
    if missing:
        raise JarsError(
            f"expected {len(locked_jars())} jars of Kafka {KAFKA_VERSION} in {directory}, "
            f"{len(missing)} could not be fetched or differ from the lock (first: {missing[0].file_name}). "
            "Remedy: check the network or Maven's settings and run the command again: it goes on from there."
        )
    return directory


def missing_jars(directory: Path) -> list[Jar]:
    """Those of the lock that are not there, or not the bytes that the lock names."""
    return [jar for jar in locked_jars() if not _is_jar(directory / jar.file_name, jar)]


def _is_jar(path: Path, jar: Jar) -> bool:
    if not path.is_file() or path.stat().st_size != jar.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


@contextmanager
def _only_one(directory: Path) -> Generator[None, None, None]:
    """Two commands that start at once fetch once."""
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ways() -> list[Fetch]:
    maven = shutil.which("mvn")
    # Maven first: where it is there, its settings know the company's mirror and credentials.
    return [*([partial(_by_maven, maven)] if maven else []), _by_jgo]


def _fetched_by(fetch: Fetch, missing: Sequence[Jar], directory: Path) -> list[Jar]:
    incoming = directory / ".incoming"
    incoming.mkdir(exist_ok=True)
    missing = _admit(missing, incoming, directory)  # What a download that was killed had finished.
    megabytes = sum(jar.size_bytes for jar in missing) / 1e6
    _say(f"Kafka {KAFKA_VERSION}: fetching {len(missing)} jars, {megabytes:.0f} MB, into {directory}")
    try:
        fetch(missing, incoming)
    finally:
        missing = _admit(missing, incoming, directory)
        shutil.rmtree(incoming)
    return missing


def _admit(missing: Sequence[Jar], incoming: Path, directory: Path) -> list[Jar]:
    """Moves what equals the lock to its final name; returns what is still missing."""
    for jar in missing:
        if _is_jar(incoming / jar.file_name, jar):
            (incoming / jar.file_name).rename(directory / jar.file_name)
    return [jar for jar in missing if not _is_jar(directory / jar.file_name, jar)]


def _by_maven(maven: str, missing: Sequence[Jar], incoming: Path) -> None:
    del missing  # Maven's own cache knows what is there already.
    try:
        subprocess.run(  # noqa: S603
            [
                maven,
                *("-B", "-q", "-f", str(POM), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={incoming}"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAVEN_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stdout or error.stderr or "no output").strip().splitlines()[0]
        _say(f"Maven could not fetch them ({reason}); going on without Maven")
    except (OSError, subprocess.TimeoutExpired) as error:
        _say(f"Maven could not fetch them ({error}); going on without Maven")


def _by_jgo(missing: Sequence[Jar], incoming: Path) -> None:
    """jgo knows Maven's repositories; the lock already says which files, so nothing is resolved."""
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        downloads = [pool.submit(_download, jar, incoming) for jar in missing]
        try:
            for done, (jar, download) in enumerate(zip(missing, downloads, strict=True), start=1):
                download.result()
                _say(f"  {done}/{len(missing)} {jar.file_name}")
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's own RuntimeErrors.
            raise JarsError(
                f"expected to download Kafka's jars, got: {error}. Remedy: check the network (proxy, "
                "certificates: REQUESTS_CA_BUNDLE) and run the command again; it goes on where it ended."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _download(jar: Jar, incoming: Path) -> None:
    # An extra, and slow to import: only who fetches needs it.
    from jgo.config import GlobalSettings  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    with TemporaryDirectory(dir=incoming) as repository:
        context = MavenContext(
            repo_cache=Path(repository),
            remote_repos=GlobalSettings.load().repositories or None,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
        )
        artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact(packaging="jar")
        downloaded = context.resolver.download(artifact)
        assert downloaded is not None, "jgo answers None for snapshots only, the lock names releases"
        downloaded.rename(incoming / jar.file_name)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  (progress of a first run, to the person who waits)
