"""Dead letters: events that can never be metered, kept whole with their reason and position."""

from typing import Literal, TypeAlias

from schemas.base import Count, UtcInstant, WireModel

DeadLetterReason: TypeAlias = Literal[
    "too_large",
    "malformed_json",
    "unknown_type",
    "invalid_envelope",
    "key_mismatch",
    "unsigned",
    "bad_signature",
    "invalid_data",
    "conflict",
    "unknown_account",
    "late",
    "too_late",
    "too_early",
    "unpriced",
]
"""In the order in which they are looked for."""


class Header(WireModel):
    name: str
    value_base64: str


class DeadLetter(WireModel):
    """A record of the input log that can never be metered."""

    reason: DeadLetterReason
    detail: str
    """What was expected and what came, in words; never the payload."""
    pointer: str
    """JSON pointer to the attribute at fault; empty when it is the whole."""
    account_id: str
    """The key as far as it is an account id, else empty."""
    event_id: str
    """The id as far as it could be read, else empty."""
    source: str
    type: str
    accepted_at: UtcInstant
    partition: Count
    offset: Count
    partition_seq: Count
    key_base64: str
    payload_base64: str
    """The original bytes."""
    headers: list[Header]
