"""What every record has: its topic, key and bytes; where and when it was decided. How shares and shortages are
written."""

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.domain.account import Account, available
from pipeline.domain.credits import Credits, format_credits
from pipeline.domain.grants import GrantShare
from pipeline.domain.instants import format_instant


class OutRecord(NamedTuple):
    """A record to produce, to the partition of the same number. `topic` is without a deployment's prefix."""

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    """The partition's clock when the outcome was decided."""


class Place(NamedTuple):
    """Where and when an outcome was decided."""

    partition: int
    offset: int
    partition_seq: int
    accepted_at: int
    accepted_text: str
    """The same in RFC 3339: it stands in every record."""


def written_shares(shares: Sequence[GrantShare]) -> list[dict[str, str]]:
    """Grants and how much each gave, in burn order."""
    return [{"grant_id": share.grant_id, "credits": format_credits(share.credits)} for share in shares]


def written_shortage(account: Account, required: Credits) -> dict[str, str]:
    """What was missing for a request that was refused, and when there will be more."""
    return {
        "required": format_credits(required),
        "available": format_credits(available(account)),
        "resets_at": format_instant(account.subscription.period_end),
    }
