"""What notification keys do: sign settings and requests, and make webhook secrets and the tokens that end mails.

A webhook's secret is HMAC-SHA256 over account, endpoint and a random salt, under the key: whoever reads the topic or a
backup of it learns nothing, and nothing has to be decrypted. Each use has a prefix of its own.
"""

import hmac
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, TypeVar

import orjson
from pydantic import BaseModel

from pipeline.settings import NotifierSettings
from schemas.notification_settings import WebhookSecret

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (what stands before every secret)
SALT_BYTES: Final = 32
UNSIGNED: Final = "0" * 64
T = TypeVar("T", bound=BaseModel)


class NoNotificationKeyError(Exception):
    """Nothing to sign with."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"expected a notification key {key_id!r} in CREDITSTREAM_NOTIFIER__KEYS, there is none; "
            "CREDITSTREAM_NOTIFIER__KEY_ID names the one that signs"
        )


@dataclass(frozen=True, slots=True)
class NotificationKeys:
    """All keys by id, and which of them signs."""

    key_id: str
    by_id: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, settings: NotifierSettings) -> "NotificationKeys | None":
        """Of this deployment; None when it has none to sign with."""
        by_id = {name: bytes.fromhex(each.get_secret_value()) for name, each in settings.keys.items()}
        return cls(settings.key_id, by_id) if settings.key_id in by_id else None

    def signed(self, record: T) -> T:
        """The record with the signing key's id and signature. It has `keyid` and `signature`."""
        named = record.model_copy(update={"keyid": self.key_id, "signature": UNSIGNED})
        return named.model_copy(update={"signature": _signature(named, self.by_id[self.key_id])})

    def are_of(self, record: BaseModel, *, keyid: str, signature: str) -> bool:
        """Whether one of these keys has signed the record."""
        secret = self.by_id.get(keyid)
        return secret is not None and hmac.compare_digest(signature, _signature(record, secret))

    def new_secret(self) -> WebhookSecret:
        """What a new secret is derived from."""
        return WebhookSecret(keyid=self.key_id, salt=secrets.token_hex(SALT_BYTES), expires_at=None)

    def webhook_secret(self, account: str, endpoint: str, of: WebhookSecret) -> str | None:
        """`whsec_…` as Standard Webhooks has it; None when its key is gone."""
        key = self.by_id.get(of.keyid)
        if key is None:
            return None
        about = orjson.dumps([account, endpoint, of.salt])
        return SECRET_PREFIX + b64encode(_mac(key, b"webhook-secret", about)).decode()

    def unsubscribe_token(self, account: str, recipient: str) -> str:
        """Ends mails to one recipient of one account, whoever shows it."""
        return f"{self.key_id}.{self._unsubscribe(self.key_id, account, recipient)}"

    def may_unsubscribe(self, token: str, account: str, recipient: str) -> bool:
        key_id, _, shown = token.rpartition(".")
        if key_id not in self.by_id:
            return False
        expected = self._unsubscribe(key_id, account, recipient)
        return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), expected.encode())

    def _unsubscribe(self, key_id: str, account: str, recipient: str) -> str:
        return _mac(self.by_id[key_id], b"unsubscribe", orjson.dumps([account, recipient])).hex()


def _signature(record: BaseModel, secret: bytes) -> str:
    content = record.model_dump(mode="json", exclude={"signature"})
    return _mac(secret, b"notifications", orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hex()


def _mac(secret: bytes, use: bytes, content: bytes) -> bytes:
    return hmac.new(secret, use + b"\0" + content, sha256).digest()
