"""API keys of the HTTP gateway: who may do what, on a compacted topic, key = key id. Never the key itself.

Kafka's producers can write, too, so a record counts only with the signature of a command key: HMAC-SHA256 (hex) over
the record without `signature`, as JSON with sorted keys and no white space.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from schemas.base import AccountId, UtcInstant, WireModel

KEY_ID_PATTERN = r"^[0-9a-f]{16}$"
KeyId: TypeAlias = Annotated[str, Field(pattern=KEY_ID_PATTERN)]
Hash: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ApiKey(WireModel):
    """One key and what it may do. A revoked one stays, so that its end is known."""

    key_id: KeyId
    name: str
    sha256: Hash
    """Of the whole key, which has 256 random bits: no salt or slow hash is needed."""
    scopes: list[Literal["ingest", "hold", "read", "billing", "admin"]]
    accounts: list[AccountId] | None
    """null: every account."""
    created_at: UtcInstant
    created_by: str
    revoked_at: UtcInstant | None
    revoked_by: str
    keyid: str
    """Of the command key that signed."""
    signature: Hash
