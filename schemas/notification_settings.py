"""Whom an account's alerts are sent to, on the compacted topic `metering.notification-settings.v1`.

Two kinds of records, each whole: the account's own (key: account id) and one for each webhook endpoint (key: account
id, `/`, endpoint id). A record counts only with the signature of a notification key (`pipeline/notifications/keys.py`).
A webhook's secret stands nowhere: it is derived from the notification key and the random salt that stands here.
"""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from schemas.base import AccountId, UtcInstant, WireModel

RECIPIENTS_MAX: Final = 10
WEBHOOKS_MAX: Final = 10
"""Of one account, and not deleted."""
ENDPOINTS_KEPT_MAX: Final = 100
"""Of one account, deleted ones too: their records stay."""
SECRETS_MAX: Final = 2
"""The newest, and the one before it until its overlap ends."""

ADDRESS_PATTERN: Final = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,8}$"
)
"""As HTML's own rule for e-mail addresses: no quotes, no spaces, no line breaks, nothing beyond ASCII."""
RECIPIENT_ID_PATTERN: Final = r"^rcp_[0-9a-f]{16}$"
ENDPOINT_ID_PATTERN: Final = r"^whk_[0-9a-f]{16}$"
TARGET_ID_PATTERN: Final = r"^(rcp|whk)_[0-9a-f]{16}$"

Address: TypeAlias = Annotated[str, Field(max_length=254, pattern=ADDRESS_PATTERN)]
Language: TypeAlias = Literal["en", "de"]
TimeZone: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
"""An IANA name."""
WebhookUrl: TypeAlias = Annotated[
    str, Field(min_length=9, max_length=2048, pattern=r"^https?://[\x21-\x7e]+$")
]
Description: TypeAlias = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Hash: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Recipient(WireModel):
    recipient_id: Annotated[str, Field(pattern=RECIPIENT_ID_PATTERN)]
    """Of account and address, so the same address has the same id again."""
    address: Address


class _Signed(WireModel):
    account_id: AccountId
    revision: Annotated[int, Field(ge=1)]
    """1, 2, 3, …: an older one that is written again changes nothing."""
    updated_at: UtcInstant
    updated_by: str
    keyid: str
    """Of the notification key that signed."""
    signature: Hash


class AccountNotifications(_Signed):
    """Whom to write to, in which words and hours."""

    record: Literal["account"]
    recipients: Annotated[list[Recipient], Field(max_length=RECIPIENTS_MAX)]
    language: Language
    time_zone: TimeZone


class WebhookSecret(WireModel):
    """What a secret is derived from."""

    keyid: str
    """Of the notification key that it is derived from; that key must be kept as long."""
    salt: Hash
    expires_at: UtcInstant | None
    """Until then it signs beside its successor; null: it is the newest."""


class WebhookEndpoint(_Signed):
    """Where to POST alerts to. A deleted one stays, without its salts."""

    record: Literal["webhook"]
    endpoint_id: Annotated[str, Field(pattern=ENDPOINT_ID_PATTERN)]
    url: str
    description: Description
    secrets: Annotated[list[WebhookSecret], Field(max_length=SECRETS_MAX)]
    created_at: UtcInstant
    deleted_at: UtcInstant | None
