"""Notification settings from outside a gateway, as the command line has them."""

from pipeline.gateway import record_log
from pipeline.notifications.book import NotificationBook, Record, key_of
from pipeline.notifications.keys import NoNotificationKeyError, NotificationKeys
from pipeline.settings import Settings
from schemas.notification_request import NotificationRequest
from schemas.topics import NOTIFICATION_REQUESTS, NOTIFICATION_SETTINGS


def read(settings: Settings) -> NotificationBook:
    """All settings that there are now. Raises NoNotificationKeyError."""
    keys = NotificationKeys.of(settings.notifier)
    if keys is None:
        raise NoNotificationKeyError(settings.notifier.key_id)
    book = NotificationBook(keys)
    record_log.read(settings, NOTIFICATION_SETTINGS, book.apply)
    return book


def write(settings: Settings, record: Record) -> None:
    """Publish a change; gateways and notifiers follow within moments. Raises DeliveryError."""
    record_log.write(settings, NOTIFICATION_SETTINGS, (key_of(record), record.model_dump_json().encode()))


def ask(settings: Settings, *requests: NotificationRequest) -> None:
    """Ask the notifier. Raises DeliveryError."""
    pairs = [(each.account_id.encode(), each.model_dump_json().encode()) for each in requests]
    record_log.write(settings, NOTIFICATION_REQUESTS, *pairs)
