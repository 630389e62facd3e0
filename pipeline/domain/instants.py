"""Instants: epoch milliseconds in UTC as one integer, and RFC 3339 on the wire."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NewType

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts them."""

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DAY_MINUTES: Final = DAY_MS // MINUTE_MS
_MINUTES: Final = tuple(f"{each // 60:02d}:{each % 60:02d}" for each in range(DAY_MINUTES))
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# What RFC 3339 has, because `fromisoformat` also reads week dates, commas, offsets such as +01:99, and hours alone.
_RFC_3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def parse_instant(text: str) -> Instant:
    """An RFC 3339 instant; what is finer than a millisecond is cut off.

    Raises ValueError when it is none, or has no offset: a local time names no instant.
    """
    if len(text) == 24 and text[19] == "." and text[23] == "Z" and text.isascii() and text[20:23].isdigit():
        return Instant(_whole_second(text[:19]) + int(text[20:23]))  # As most producers write it.
    return _any_instant(text)


@lru_cache(maxsize=4096)  # A batch holds few different seconds.
def _whole_second(text: str) -> int:
    return _any_instant(text + "Z")


def _any_instant(text: str) -> Instant:
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"expected an RFC 3339 instant such as 2026-11-23T13:00:00Z, got {text[:64]!r}")
    try:
        parsed = datetime.fromisoformat(text.upper())
    except ValueError as error:  # Its words repeat the text, however long it is.
        raise ValueError(f"expected an instant that exists, got {text[:64]!r}") from error
    return Instant((parsed - _EPOCH) // _MILLISECOND)


def format_instant(at: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    minute, rest = divmod(at, MINUTE_MS)
    day, minute = divmod(minute, DAY_MINUTES)
    seconds = f"{rest:05d}"
    return f"{_day(day)}T{_MINUTES[minute]}:{seconds[:2]}.{seconds[2:]}Z"


@lru_cache(maxsize=4096)  # Periods end at any second of the day, and on few days.
def _day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


def as_datetime(at: int) -> datetime:
    """The aware datetime of an instant."""
    return _EPOCH + at * _MILLISECOND


def as_instant(moment: datetime) -> Instant:
    """The instant of an aware datetime."""
    return Instant((moment - _EPOCH) // _MILLISECOND)
