"""Reads the files of `deploy/` for the tests: compose services, manifests, and the programs that both name."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from pipeline.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
_VARIABLE: Final = re.compile(r"\$\{(\w+):\?[^}]*\}")


def made_secrets(directory: Path) -> dict[str, str]:
    """What `deploy/secrets.sh` makes, as compose reads it from `.env`."""
    file = directory / "env"
    subprocess.run(["sh", DEPLOY / "secrets.sh", file], check=True, capture_output=True, timeout=30)
    lines = [line.split("=", 1) for line in file.read_text().splitlines()]
    return {name: value.strip("'") for name, value in lines}


def services() -> dict[str, Any]:
    """Of docker-compose.yml, by name."""
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def our_services() -> dict[str, Any]:
    """Those that run our image."""
    return {name: each for name, each in services().items() if each["image"].startswith("creditstream:")}


def filled_in(text: str, secrets: Mapping[str, str]) -> str:
    """`${NAME:?…}` replaced, as compose does; a name that is not there is a KeyError."""
    return _VARIABLE.sub(lambda match: secrets[match[1]], text)


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object under deploy/kubernetes with its file's name; kustomizations are not objects of a cluster."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        for document in yaml.safe_load_all(path.read_text()):
            yield path.relative_to(KUBERNETES).as_posix(), document


def without_our_variables() -> dict[str, str]:
    """The environment of this process less what would be a setting."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CREDITSTREAM_")}


def known_variables() -> set[str]:
    """Every variable that `Settings` reads. An unknown one would be ignored in silence."""
    known = set[str]()
    for name, field in Settings.model_fields.items():
        variable = f"CREDITSTREAM_{name.upper()}"
        if isinstance(field.default, BaseModel):
            known |= {f"{variable}__{each.upper()}" for each in type(field.default).model_fields}
        else:
            known.add(variable)
    return known
