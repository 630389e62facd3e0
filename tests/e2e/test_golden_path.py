"""The README's first command: from an empty directory to a reconciled deployment, and nothing left running."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.load.usage import SHARES
from pipeline.settings import Settings, child_environment

DEMO_SECONDS_MAX = 240
"""Kafka's jars may have to be fetched first."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the demonstration printed, as JSON."""
    home = tmp_path_factory.mktemp("demo") / "home"
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEMO_SECONDS_MAX,
        env=child_environment(Settings(home=home)),
    )
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


@pytest.mark.e2e
def test_the_pages_worked_examples_cost_what_the_page_says(shown: dict[str, Any]) -> None:
    assert [(each["what"], each["charged"]) for each in shown["examples"]] == [
        ("1 medium 1:1 image", "1"),
        ("4 high-quality variations", "8"),
        ("background removal ×10", "20"),
        ("OCR of one receipt", "1"),
        ("upscale 512×512 by 4", "5"),
    ]


@pytest.mark.e2e
def test_every_event_has_its_outcomes_and_kafka_clickhouse_and_the_ledger_agree(
    shown: dict[str, Any],
) -> None:
    outcomes = dict(shown["outcomes"])
    # Two answers have: what was captured (2), put back (3) or taken back (2). One has none but an order: the pack.
    assert sum(outcomes.values()) == shown["published"] + 2 + 3 * 2 + 2 + 1
    assert (outcomes["duplicate"], outcomes["denied"], outcomes["reversed"]) == (2, 2, 2)
    assert (shown["reconcile"]["equal"], shown["disagreements"]) == (True, [])
    assert {each["service"] for each in shown["credits_by_service"]} == set(SHARES)
    assert shown["month_on_its_own_dates"]


@pytest.mark.e2e
def test_what_was_given_is_what_was_used_and_what_is_left(shown: dict[str, Any]) -> None:
    plans, packs, overage = 2500 + 50, 600 + 200 + 1000, 33  # An upgrade grants the difference.
    used = sum((Decimal(each["credits"]) for each in shown["credits_by_service"]), Decimal(0))
    left = sum((Decimal(each["posted"]) for each in shown["balances"]), Decimal(0))
    assert Decimal(plans + packs + overage) == used + left
    assert used == Decimal(shown["reconcile"]["charged"])


@pytest.mark.e2e
def test_the_explained_charge_can_be_followed_by_hand(shown: dict[str, Any]) -> None:
    explained = shown["explained"]
    receipt = explained["receipt"]
    assert (receipt["credits_per_image"], receipt["images"], explained["credits"]) == ("2", 4, "8")
    # The month left 317 of the plan's 2500; what came late cost 3, and the medium image before it 1.
    assert (receipt["balance_before"], receipt["balance_after"]) == ("313", "305")


@pytest.mark.e2e
def test_nothing_is_left_running(shown: dict[str, Any]) -> None:
    home = Path(shown["addresses"]["state"])
    left = [each for each in psutil.process_iter(["environ"]) if _belongs(each, home)]
    assert left == []


def _belongs(process: psutil.Process, home: Path) -> bool:
    environ: dict[str, str] | None = process.info["environ"]
    return environ is not None and environ.get("CREDITSTREAM_HOME") == str(home)
