"""How the credits of a period went, day by day, and when they run out at the present pace. An estimate, no charge."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

PACE_DAYS: Final = 7
"""The pace is that of so many days, or of the period where that is younger."""
DAYS_MAX: Final = 400
"""Of one period: a year, and room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnDay:
    """One day of the period, in the reader's time zone. What is not known, or not to be expected, is None."""

    day: date
    used: Decimal | None
    left: Decimal | None
    """At its end; today: now."""
    projected: Decimal | None
    """What is left at its end if usage goes on as it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnDown:
    days: list[BurnDay]
    pace: Decimal
    """Credits a day."""
    runs_out: datetime | None
    """None: not in this period."""


def burn_down(
    *,
    used: Mapping[str, Decimal],
    left: Decimal,
    start: datetime,
    end: datetime,
    now: datetime,
    zone: str,
) -> BurnDown:
    """`used`: credits by day, as in 2026-11-23, of the zone. `left`: now. The period is [start, end)."""
    where = ZoneInfo(zone)
    today, last = now.astimezone(where).date(), (end - timedelta(milliseconds=1)).astimezone(where).date()
    first = max(start.astimezone(where).date(), last - timedelta(days=DAYS_MAX))
    pace = _pace(used, today, start, now)
    runs_out = now + timedelta(seconds=int(left / pace * 86_400)) if pace > 0 and left > 0 else None
    days: list[BurnDay] = []
    after = Decimal(0)
    for number in range(
        (today - first).days, -1, -1
    ):  # From today back: what was used later was there before.
        each = first + timedelta(days=number)
        days.append(BurnDay(day=each, used=used.get(str(each), Decimal(0)), left=left + after,
                            projected=left if each == today else None))  # fmt: skip
        after += used.get(str(each), Decimal(0))
    days.reverse()
    for number in range(1, (last - today).days + 1):
        projected = max(Decimal(0), left - pace * number).quantize(Decimal("0.01"))
        days.append(BurnDay(day=today + timedelta(days=number), used=None, left=None, projected=projected))
    return BurnDown(
        days=days, pace=pace, runs_out=runs_out if runs_out is not None and runs_out < end else None
    )


def _pace(used: Mapping[str, Decimal], today: date, start: datetime, now: datetime) -> Decimal:
    """Credits a day, over the last days of the period."""
    recent = [used.get(str(today - timedelta(days=back)), Decimal(0)) for back in range(PACE_DAYS)]
    lived = Decimal(int((now - start.astimezone(UTC)).total_seconds())) / 86_400
    days = min(Decimal(PACE_DAYS), max(Decimal(1), lived))
    return max(Decimal(0), sum(recent, Decimal(0)) / days)
