"""The auditor against numbers worked out by hand: it judges others, so it is tried first."""

import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.load.record import CommandKey, command, instant
from tests.simulation.auditor import Auditor, AuditRules, Verdict, one_month_after
from tests.simulation.auditor_schedule import AuditedPlans

KEY = CommandKey(key_id="test", secret=b"0123456789abcdef0123456789abcdef")
NOON = 1_795_003_200_000
DAY_MS = 86_400_000


def _auditor(plan: str = "free") -> Auditor:
    auditor = Auditor(
        AuditRules(
            command_keys={"test": KEY.secret},
            plans=AuditedPlans(
                0,
                "first",
                credits={"free": Decimal(10), "paid": Decimal(10)},
                free=frozenset({"free"}),
                packs={"free": {}, "paid": {}, "prepaid": {}},
                overage_prices={"free": None, "paid": Decimal(1)},
            ),
        )
    )
    opened = command(KEY, "open", "a", id="open", time_ms=NOON, data={"plan": plan})
    assert auditor.judge(NOON, *opened).outcome == "accepted"
    return auditor


def _use(auditor: Auditor, number: int, service: str, at_ms: int = NOON, **data: Any) -> Verdict:
    event = {
        "specversion": "1.0", "id": f"use-{number}", "source": "//test", "subject": "a",
        "type": f"org.apimage.usage.{service}.v1", "time": instant(NOON), "data": data,
    }  # fmt: skip
    return auditor.judge(at_ms, b"a", json.dumps(event).encode(), ())


def _grant(auditor: Auditor, grant_id: str, credits_: str, **terms: Any) -> Verdict:
    data = {"grant_id": grant_id, "kind": "prepaid", "credits": credits_, **terms}
    record = command(KEY, "grant", "a", id=f"issue-{grant_id}", time_ms=NOON, data=data)
    return auditor.judge(NOON, *record)


@pytest.mark.parametrize(
    ("service", "data", "expected"),
    [
        ("image_generation", {"quality": "medium", "width": 1024, "height": 1024}, 1),
        ("image_generation", {"quality": "high", "width": 1024, "height": 1024, "images": 4}, 8),
        ("background_removal", {"images": 10}, 20),
        ("image_analysis", {"languages": ["en", "de"]}, 1),
        ("upscaling", {"input_width": 512, "input_height": 512, "scale": 4}, 5),
        ("image_generation", {"quality": "low", "width": 1100, "height": 1000}, 1),
        ("image_generation", {"quality": "low", "width": 1100, "height": 1001}, 2),
        (
            "image_generation",
            {"quality": "high", "width": 4096, "height": 4096, "transparent_background": True},
            10,
        ),
        ("transparent_background", {"images": 3}, 3),
        ("background_removal", {"transparent_background": True}, 3),
        ("post_processing", {"output_width": 1000, "output_height": 1000}, 1),
        ("post_processing", {"output_width": 1000, "output_height": 1001}, 2),
        ("upscaling", {"output_width": 90_000, "output_height": 90_000}, 9),
        ("upscaling", {"input_width": 1000, "input_height": 1000, "scale": 1.001}, 2),
    ],
)
def test_prices_are_those_of_the_product_page(service: str, data: dict[str, Any], expected: int) -> None:
    auditor = _auditor()
    _grant(auditor, "g", "1000")
    assert _use(auditor, 1, service, **data).credits == expected


def test_a_request_that_does_not_fit_is_denied_whole_and_stays_denied() -> None:
    auditor = _auditor()
    verdict = _use(auditor, 1, "background_removal", images=6)
    assert (verdict.outcome, verdict.reason) == ("denied", "insufficient_credits")
    assert verdict.rated == 12
    _grant(auditor, "g", "100")
    assert _use(auditor, 1, "background_removal", images=6).outcome == "duplicate"


@pytest.mark.parametrize(("plan", "reason"), [("free", "plan_paused"), ("paid", "credits_exhausted")])
def test_at_nothing_left_a_free_plan_pauses_and_a_paid_one_blocks(plan: str, reason: str) -> None:
    auditor = _auditor(plan)
    assert _use(auditor, 1, "background_removal", images=5).balance_after == 0
    assert _use(auditor, 2, "image_analysis").reason == reason


def test_other_content_under_a_used_id_is_a_conflict() -> None:
    auditor = _auditor()
    _use(auditor, 1, "image_analysis")
    assert _use(auditor, 1, "image_analysis", images=2).reason == "conflict"
    assert auditor.balances() == {"a": Decimal(9)}


def test_grants_burn_by_priority_and_then_by_expiry() -> None:
    auditor = _auditor()
    _grant(auditor, "never", "5")
    _grant(auditor, "later", "5", expires_at=instant(NOON + 3 * DAY_MS))
    _grant(auditor, "sooner", "5", expires_at=instant(NOON + 2 * DAY_MS))
    _grant(auditor, "first", "0.5", priority=0)
    _use(auditor, 1, "image_analysis", images=16)
    left = {grant.grant_id: grant.remaining for grant in auditor.accounts["a"].grants}
    assert left == {"monthly:2026-11-18": 0, "first": 0, "sooner": 0, "later": Decimal("4.5"), "never": 5}


def test_a_grant_counts_from_its_first_instant_and_no_longer_at_its_last() -> None:
    auditor = _auditor()
    start, end = instant(NOON + 1000), instant(NOON + 2000)
    _grant(auditor, "brief", "1", effective_at=start, expires_at=end)
    balances = []
    for at_ms in (NOON + 999, NOON + 1000, NOON + 1999, NOON + 2000):
        auditor.judge(at_ms, None, b"", ())
        balances.append(auditor.balances()["a"])
    assert balances == [10, 11, 11, 10]


def test_a_month_ends_on_the_last_day_where_it_is_shorter() -> None:
    january_31 = 1_769_817_600_000
    assert instant(one_month_after(january_31)) == "2026-02-28T00:00:00.000Z"
