"""The producers' door under fire, a short run; `python -m tests.door` is the long one."""

from pathlib import Path

import pytest

from tests.door.run import Plan, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_kills_and_an_outage_lose_nothing_acknowledged_and_charge_nothing_twice_or_failed(
    tmp_path: Path,
) -> None:
    lines: list[str] = []
    verdict = run(Plan(seed=7, kills=2, outage_seconds=3, outage_by="sleep"), tmp_path, lines.append)
    assert verdict.faults == {}, (lines, verdict.counts)
    seen = verdict.counts
    assert seen["events refused by a full queue"] > 0
    assert seen["images failed in these jobs"] > 0
    assert seen["jobs captured"] > 0
    assert seen["holds placed"] > 0
    assert (seen["kills of the service"], seen["kills of the gateway"]) == (2, 2)
