"""Instants: epoch milliseconds in UTC as one integer, and RFC 3339 on the wire."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NewType

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z, as Kafka counts them."""

SECOND_MS: Final = 1000
HOUR_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_instant(text: str) -> Instant:
    """An RFC 3339 instant; what is finer than a millisecond is cut off.

    Raises ValueError when it is none, or has no offset: a local time names no instant.
    """
    # fromisoformat also reads week dates and other forms that RFC 3339 does not have.
    if len(text) < 20 or text[4] != "-" or text[7] != "-" or text[10] not in "Tt" or text[13] != ":":
        raise ValueError(f"expected an RFC 3339 instant such as 2026-11-23T13:00:00Z, got {text[:64]!r}")
    parsed = datetime.fromisoformat(text.upper())
    if parsed.tzinfo is None:
        raise ValueError(f"expected an instant with an offset such as Z, got {text[:64]!r}")
    return Instant((parsed - _EPOCH) // _MILLISECOND)


def format_instant(at: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    second, millisecond = divmod(at, SECOND_MS)
    return f"{_second(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=4096)  # A batch holds few different seconds.
def _second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def as_datetime(at: int) -> datetime:
    """The aware datetime of an instant."""
    return _EPOCH + at * _MILLISECOND


def as_instant(moment: datetime) -> Instant:
    """The instant of an aware datetime."""
    return Instant((moment - _EPOCH) // _MILLISECOND)
