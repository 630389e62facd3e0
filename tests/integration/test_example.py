"""The worked example against a real pipeline: what its visitors were given is what the account was charged."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local.ports import free_port
from pipeline.settings import Settings, child_environment
from tests.gateways import deployed

pytestmark = pytest.mark.integration


def test_failed_pictures_and_repeated_requests_cost_nothing(settings: Settings, tmp_path: Path) -> None:
    with deployed(settings) as there:
        environment = child_environment(
            settings, CREDITSTREAM_GATEWAY_URL=there.url("gateway"), CREDITSTREAM_API_KEY=there.key
        )
        arguments = ["--visits", "40", "--port", str(free_port()), "--spool", str(tmp_path / "spool")]
        said = subprocess.run(
            [sys.executable, "-m", "pipeline.example", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=120,
        )
    assert said.returncode == 0, (said.stdout, said.stderr)
    for offer in ("generate", "upscale", "backgrounds"):
        [line] = [line for line in said.stdout.splitlines() if line.strip().startswith(offer)]
        assert ", 0 failed" not in line, "the seed has failures of every offer"
