"""Billing periods: half open, computed from the subscription's anchor in UTC.

The month's end is clamped from the anchor each time, so 31 January gives 28 February and then 31 March
(product.md section 2, our decision).
"""

import calendar
from datetime import UTC, datetime

from pipeline.domain.instants import Instant, as_datetime, as_instant


def months_after(anchor: Instant, months: int) -> Instant:
    """The instant `months` calendar months after the anchor, clamped to the month's last day."""
    start = as_datetime(anchor)
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    moment = datetime(
        year, month + 1, day, start.hour, start.minute, start.second, start.microsecond, tzinfo=UTC
    )
    return as_instant(moment)
