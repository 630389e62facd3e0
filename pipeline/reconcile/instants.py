"""The wire's instants, as epoch milliseconds."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def epoch_ms(text: str) -> int:
    """Milliseconds since 1970 of "2026-11-23T13:00:00.000Z"."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def instant(ms: int) -> str:
    """The other way."""
    return (_EPOCH + ms * _MILLISECOND).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"
