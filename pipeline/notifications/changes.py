"""What may be changed in an account's notification settings: each change makes one signed record."""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pipeline.notifications.addresses import Inside, url_fault
from pipeline.notifications.book import NotificationBook
from pipeline.notifications.keys import UNSIGNED, NotificationKeys
from pipeline.settings import NotifierSettings
from schemas.notification_settings import (
    ENDPOINTS_KEPT_MAX,
    WEBHOOKS_MAX,
    AccountNotifications,
    Language,
    Recipient,
    WebhookEndpoint,
    WebhookSecret,
)

ID_BYTES: Final = 8


class Change(NamedTuple):
    """Who changes something, and when."""

    at: datetime
    by: str


class NotificationError(Exception):
    """A change that may not be: what was expected, and where in the request."""

    def __init__(self, message: str, pointer: str) -> None:
        super().__init__(message)
        self.pointer = pointer


def recipient_id(account: str, address: str) -> str:
    """The same for the same address of an account."""
    return "rcp_" + sha256(f"{account}\0{address}".encode()).hexdigest()[:16]


def with_recipients(
    book: NotificationBook,
    account: str,
    *,
    addresses: list[str],
    language: Language,
    time_zone: str,
    change: Change,
) -> AccountNotifications:
    """The account's own record, whole. Addresses that differ in capitals only are one."""
    known = book.account(account)
    once: dict[str, str] = {}
    for address in addresses:
        once.setdefault(address.lower(), address)
    return book.keys.signed(
        AccountNotifications(
            record="account",
            account_id=account,
            revision=1 if known is None else known.revision + 1,
            recipients=[
                Recipient(recipient_id=recipient_id(account, name), address=address)
                for name, address in once.items()
            ],
            language=language,
            time_zone=time_zone,
            updated_at=change.at,
            updated_by=change.by,
            keyid="",
            signature=UNSIGNED,
        )
    )


def without_recipient(
    keys: NotificationKeys, record: AccountNotifications, recipient: str, at: datetime
) -> AccountNotifications:
    """After somebody asked for no more mails."""
    left = [each for each in record.recipients if each.recipient_id != recipient]
    changes = {
        "recipients": left,
        "revision": record.revision + 1,
        "updated_at": at,
        "updated_by": "unsubscribe",
    }
    return keys.signed(record.model_copy(update=changes))


def new_webhook(
    book: NotificationBook,
    account: str,
    settings: NotifierSettings,
    *,
    url: str,
    description: str,
    change: Change,
) -> WebhookEndpoint:
    """An endpoint with its first secret. Raises NotificationError."""
    fault = url_fault(url, Inside.of(settings.inside_allowed))
    if fault is not None:
        raise NotificationError(fault, "/url")
    if len(book.webhooks(account)) >= WEBHOOKS_MAX:
        raise NotificationError(f"expected at most {WEBHOOKS_MAX} webhooks of an account", "")
    if book.endpoints_kept(account) >= ENDPOINTS_KEPT_MAX:
        detail = f"expected at most {ENDPOINTS_KEPT_MAX} webhooks of an account over all time"
        raise NotificationError(detail, "")
    return book.keys.signed(
        WebhookEndpoint(
            record="webhook",
            account_id=account,
            endpoint_id="whk_" + secrets.token_hex(ID_BYTES),
            revision=1,
            url=url,
            description=description,
            secrets=[book.keys.new_secret()],
            created_at=change.at,
            updated_at=change.at,
            updated_by=change.by,
            deleted_at=None,
            keyid="",
            signature=UNSIGNED,
        )
    )


def rotated(
    keys: NotificationKeys, webhook: WebhookEndpoint, *, overlap: timedelta, change: Change
) -> WebhookEndpoint:
    """A new secret; the one before signs on beside it until the overlap ends."""
    old = webhook.secrets[0].model_copy(update={"expires_at": change.at + overlap})
    return _changed(keys, webhook, change, secrets=[keys.new_secret(), old])


def deleted(keys: NotificationKeys, webhook: WebhookEndpoint, change: Change) -> WebhookEndpoint:
    """Nothing is sent there any more; its URL and salts are gone."""
    return _changed(keys, webhook, change, secrets=[], url="", description="", deleted_at=change.at)


def signing_secrets(keys: NotificationKeys, webhook: WebhookEndpoint, at: datetime) -> list[str]:
    """Those that sign now, the newest first. Empty when their keys are gone."""
    live = [each for each in webhook.secrets if each.expires_at is None or at < each.expires_at]
    found = [shown_secret(keys, webhook, each) for each in live]
    return [each for each in found if each is not None]


def shown_secret(keys: NotificationKeys, webhook: WebhookEndpoint, of: WebhookSecret) -> str | None:
    return keys.webhook_secret(webhook.account_id, webhook.endpoint_id, of)


def host_of(url: str) -> str:
    """What may be shown of an endpoint in a log of deliveries: a path may hold a secret."""
    return urlsplit(url).netloc


def masked(address: str) -> str:
    """What may be shown of an address: `o…@example.com`."""
    name, _, host = address.rpartition("@")
    return f"{name[:1]}…@{host}"


def _changed(
    keys: NotificationKeys, webhook: WebhookEndpoint, change: Change, **changes: object
) -> WebhookEndpoint:
    more = {"revision": webhook.revision + 1, "updated_at": change.at, "updated_by": change.by, **changes}
    return keys.signed(webhook.model_copy(update=more))
