"""Dead letters: events that can never be metered, kept whole with their reason and position."""

from typing import Annotated

from pydantic import Field

from schemas.base import Instant, WireModel


class Header(WireModel):
    name: str
    value_base64: str


class DeadLetter(WireModel):
    reason: str
    """A code of `pipeline.domain.reasons`; the list is closed."""
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
    accepted_at: Instant
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    partition_seq: int
    key_base64: str
    payload_base64: str
    """The original bytes."""
    headers: list[Header]
