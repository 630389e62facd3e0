"""What the account pages say of credits that run out, and how they write amounts and instants."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from pipeline.pages import words
from pipeline.pages.burn_down import burn_down
from pipeline.pages.run_out import Standing, banners, used_and_base

FREE = {"paid": False, "monthly_credits": "50", "overage_price": None, "currency": "EUR"}
MONTHLY = {"paid": True, "monthly_credits": "500", "overage_price": "0.03", "currency": "EUR"}
PREPAID = {"paid": True, "monthly_credits": "0", "overage_price": "0.035", "currency": "EUR"}
DENIED = {"outcome": "denied", "service": "upscaling", "rated_credits": "8"}


def balance(**other: Any) -> dict[str, Any]:
    return {
        "status": "open", "available": "100", "posted": "100", "held": "0", "overage": "0", "period_used": "0",
        "overage_ceiling": None, "auto_topup": None, "grants": [], "accepted_at": "2026-11-20T00:00:00.000Z", **other,
    }  # fmt: skip


def standing(account: dict[str, Any], plan: dict[str, Any], denied: dict[str, Any] | None = None) -> Standing:
    used, base = used_and_base(account, plan)
    return Standing(balance=account, plan=plan, used=used, base=base, reset="1 Dec", last_denial=denied)


@pytest.mark.parametrize(
    ("account", "plan", "denied", "codes"),
    [
        (balance(status="closed", available="0"), MONTHLY, None, ["account_closed"]),
        (balance(available="0", posted="0", period_used="50"), FREE, None, ["plan_paused"]),
        (balance(available="0", posted="0", period_used="500"), MONTHLY, None, ["credits_exhausted"]),
        (balance(available="0", posted="0"), PREPAID, None, ["credits_exhausted"]),
        (balance(available="3", posted="3", period_used="47"), FREE, DENIED, ["insufficient_credits"]),
        (
            balance(available="163", posted="0", overage="37", overage_ceiling="200"),
            MONTHLY,
            None,
            ["overage"],
        ),
        (
            balance(available="0", posted="0", auto_topup={"open_order": 3, "pack": "credits-100"}),
            PREPAID,
            None,
            ["topping_up", "credits_exhausted"],
        ),
        (balance(posted="10", period_used="40"), FREE, None, ["near_limit"]),
        (balance(posted="11", period_used="39"), FREE, None, []),
        (balance(available="9", posted="9", period_used="1"), FREE, DENIED, []),
    ],
)
def test_each_way_of_running_out_has_its_banner(
    account: dict[str, Any], plan: dict[str, Any], denied: dict[str, Any] | None, codes: list[str]
) -> None:
    assert [each.code for each in banners(standing(account, plan, denied))] == codes


def test_the_share_that_is_used_is_rounded_down_so_that_99_9_is_not_full() -> None:
    assert words.percent(Decimal("99.9"), Decimal(100)) == 99
    assert words.percent(Decimal(5), Decimal(0)) == 0


def test_without_monthly_credits_the_share_is_of_the_grants_in_effect() -> None:
    grants = [
        {"credits": "100", "effective_at": "2026-11-01T00:00:00.000Z"},
        {"credits": "900", "effective_at": "2026-12-01T00:00:00.000Z"},
    ]
    assert used_and_base(balance(posted="25", grants=grants), PREPAID) == (Decimal(75), Decimal(100))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("12345.5", "12,345.5"),
        ("100", "100"),
        ("-3", "−3"),
        ("0.000001", "0.000001"),
        ("1.50", "1.5"),
        ("0", "0"),
    ],
)
def test_an_amount_is_written_exactly_with_its_thousands_apart(value: str, shown: str) -> None:
    assert words.amount(value) == shown


def test_an_instant_is_shown_in_the_readers_time_zone_and_kept_in_the_element() -> None:
    shown = words.moment("2026-11-23T23:30:05.000Z", "Europe/Berlin")
    assert shown == '<time datetime="2026-11-23T23:30:05.000Z">24 Nov 2026, 00:30:05</time>'


def burned(used: dict[str, str], left: str) -> Any:
    return burn_down(
        used={day: Decimal(amount) for day, amount in used.items()},
        left=Decimal(left),
        start=datetime(2026, 11, 1, tzinfo=UTC),
        end=datetime(2026, 12, 1, tzinfo=UTC),
        now=datetime(2026, 11, 10, 12, tzinfo=UTC),
        zone="UTC",
    )


def test_what_is_left_on_a_day_is_what_is_left_now_and_what_was_used_since() -> None:
    found = burned({"2026-11-08": "5", "2026-11-10": "7"}, "88")
    left = {str(each.day): each.left for each in found.days}
    assert [left[f"2026-11-{day:02}"] for day in (7, 8, 9, 10)] == [100, 95, 95, 88]
    assert left["2026-11-11"] is None


def test_the_run_out_is_projected_from_the_pace_of_the_last_seven_days() -> None:
    found = burned({f"2026-11-{day:02}": "10" for day in range(4, 11)}, "30")
    assert (found.pace, found.runs_out) == (Decimal(10), datetime(2026, 11, 13, 12, tzinfo=UTC))
    assert [each.projected for each in found.days][9:14] == [30, 20, 10, 0, 0]


def test_no_run_out_is_projected_beyond_the_period_or_without_use() -> None:
    assert burned({"2026-11-10": "7"}, "100").runs_out is None
    assert burned({}, "100").runs_out is None
