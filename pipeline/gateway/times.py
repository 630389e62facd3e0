"""Instants as people ask for them, in a time zone of their own; UTC inside."""

import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.domain.instants import as_datetime, as_instant, format_instant, parse_instant
from pipeline.gateway.problems import ProblemError

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
YEAR_FIRST, YEAR_LAST = 1970, 2099
"""What ClickHouse's instants hold on every path, with room for any offset."""


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises `invalid_parameter`."""
    try:
        if _ZONE.fullmatch(name) and len(name) <= 64:
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ProblemError("invalid_parameter", "expected an IANA time zone such as Europe/Berlin in tz")


def utc_of(text: str, zone: ZoneInfo, parameter: str) -> str:
    """RFC 3339 in UTC, of an instant or of a date: the beginning of that day in the zone."""
    try:
        if _DATE.fullmatch(text):
            moment = datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
            at = as_instant(moment)
        else:
            at = parse_instant(text)
        if YEAR_FIRST <= as_datetime(at).year <= YEAR_LAST:
            return format_instant(at)
    except (ValueError, OverflowError):
        pass
    detail = f"expected a date or an RFC 3339 instant of {YEAR_FIRST} to {YEAR_LAST} in {parameter}"
    raise ProblemError("invalid_parameter", detail)


def in_zone(instant: str, zone: str) -> str:
    """An instant of ours, in the zone, with the offset that it had then."""
    moment = datetime.fromisoformat(instant).astimezone(zone_of(zone))
    return moment.isoformat(timespec="milliseconds")
