"""Usage events as the rules see them: parsed, bounded, with identity and fingerprint."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, NewType

from pipeline.domain.instants import Instant

AccountId = NewType("AccountId", str)
Fingerprint = NewType("Fingerprint", bytes)
"""8 bytes of what decides an event's cost: tells a resend from a clash of ids."""
Identity = NewType("Identity", bytes)
"""16 bytes of (account, source, id): the same for every resend."""


class UsageEvent(NamedTuple):
    """A producer's claim that an account used something, once. Positional: one is built for every record."""

    account_id: AccountId
    event_id: str
    source: str
    service: str
    occurred_at: Instant
    channel: str
    images: int
    quality: str
    """Empty where the service has none."""
    output_micropixels: int
    """Output area in millionths of a pixel, exact also for a scale with decimals; 0 where size has no price."""
    transparent: bool
    inputs: Mapping[str, Any]
    """The known attributes of `data`, as they came."""
    attributes: Mapping[str, Any]
    """The unknown ones: kept and reported, never priced."""
    fingerprint: Fingerprint


def identity_of(account: bytes, source: str, event_id: str) -> Identity:
    """The event's identity. Ids and sources hold no control character, so a zero byte parts them safely."""
    return Identity(
        blake2b(b"%b\0%b\0%b" % (account, source.encode(), event_id.encode()), digest_size=16).digest()
    )


def fingerprint_of(type_: str, canonical_data: bytes) -> Fingerprint:
    """Of type and data; the subject is part of the identity. Not of time, headers or trace (design.md 3)."""
    return Fingerprint(blake2b(b"%b\0%b" % (type_.encode(), canonical_data), digest_size=8).digest())
