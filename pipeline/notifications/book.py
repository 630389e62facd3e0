"""The notification settings of all accounts, as their topic has them: what is unsigned or older counts for nothing."""

from typing import Final

import orjson
from pydantic import ValidationError

from pipeline.notifications.keys import NotificationKeys
from schemas.notification_settings import AccountNotifications, WebhookEndpoint

Record = AccountNotifications | WebhookEndpoint
_MODELS: Final[dict[object, type[AccountNotifications] | type[WebhookEndpoint]]] = {
    "account": AccountNotifications,
    "webhook": WebhookEndpoint,
}


class NotificationBook:
    """Fed by one thread, read by any: what is read is never changed afterwards."""

    def __init__(self, keys: NotificationKeys) -> None:
        self.keys = keys
        self._accounts: dict[str, AccountNotifications] = {}
        self._webhooks: dict[str, dict[str, WebhookEndpoint]] = {}
        """Account → endpoint id → endpoint, deleted ones too."""
        self.refused = 0
        """Records on the topic that count for nothing: unsigned, or none of ours."""

    def apply(self, value: bytes | None) -> None:
        """Take a record of the topic."""
        record = _verified(value, self.keys)
        if record is None:
            self.refused += 1
        elif isinstance(record, AccountNotifications):
            known = self._accounts.get(record.account_id)
            if known is None or record.revision >= known.revision:
                self._accounts[record.account_id] = record
        else:
            of_account = self._webhooks.get(record.account_id, {})
            before = of_account.get(record.endpoint_id)
            if before is None or record.revision >= before.revision:
                self._webhooks[record.account_id] = {**of_account, record.endpoint_id: record}

    def account(self, account: str) -> AccountNotifications | None:
        """None: nobody ever set anything."""
        return self._accounts.get(account)

    def webhooks(self, account: str) -> list[WebhookEndpoint]:
        """Those that are not deleted, by the time of their making."""
        found = [each for each in self._webhooks.get(account, {}).values() if each.deleted_at is None]
        return sorted(found, key=lambda each: (each.created_at, each.endpoint_id))

    def webhook(self, account: str, endpoint: str) -> WebhookEndpoint | None:
        """None: there is none, or it was deleted."""
        found = self._webhooks.get(account, {}).get(endpoint)
        return found if found is not None and found.deleted_at is None else None

    def endpoints_kept(self, account: str) -> int:
        """Deleted ones too."""
        return len(self._webhooks.get(account, {}))


def key_of(record: Record) -> bytes:
    """The record's Kafka key."""
    if isinstance(record, AccountNotifications):
        return record.account_id.encode()
    return f"{record.account_id}/{record.endpoint_id}".encode()


def _verified(value: bytes | None, keys: NotificationKeys) -> Record | None:
    try:
        content = orjson.loads(value or b"")
        model = _MODELS.get(content.get("record")) if type(content) is dict else None
        record = None if model is None else model.model_validate_json(value or b"")
    except (ValueError, ValidationError):
        return None
    if record is None or not keys.are_of(record, keyid=record.keyid, signature=record.signature):
        return None
    return record
