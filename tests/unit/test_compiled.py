"""A compiled core is run only as long as its source is the one that it was compiled from."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.compiled import STAMP, StaleCoreError, check_sources


def built(package: Path, source: str) -> Path:
    """A package whose one module was compiled from `source`, and has it still."""
    (package / "state.py").write_text(source)
    (package / STAMP).write_text(json.dumps({"pipeline/state.py": sha256(source.encode()).hexdigest()}))
    return package


def test_the_source_that_was_compiled_is_accepted(tmp_path: Path) -> None:
    check_sources(built(tmp_path, "ROW_VERSION = 1"))


def test_a_source_that_has_changed_since_is_named_with_the_remedy(tmp_path: Path) -> None:
    package = built(tmp_path, "ROW_VERSION = 1")
    (package / "state.py").write_text("ROW_VERSION = 2")

    with pytest.raises(StaleCoreError, match=r"pipeline/state\.py .* changed since.*setup\.py compile"):
        check_sources(package)


def test_a_compiled_core_that_does_not_say_its_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StaleCoreError, match="missing"):
        check_sources(tmp_path)
