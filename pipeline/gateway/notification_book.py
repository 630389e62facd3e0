"""What the notification routes read and write: the book of settings, up to date, and the two topics."""

from collections.abc import Sequence
from datetime import datetime

from pipeline.client.origin import now
from pipeline.client.publisher import Delivered
from pipeline.domain.instants import as_datetime
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import ProblemError
from pipeline.notifications.book import NotificationBook, Record, key_of
from schemas.notification_request import NotificationRequest
from schemas.notification_settings import AccountNotifications, WebhookEndpoint
from schemas.topics import NOTIFICATION_REQUESTS, NOTIFICATION_SETTINGS


def clock() -> datetime:
    """This machine's clock, as records have it: whole milliseconds."""
    return as_datetime(now())


async def book_of(parts: Parts) -> NotificationBook:
    """With whatever was answered before. Raises `notifications_off` when there are no keys for it."""
    book = parts.views.notifications
    if book is None:
        raise ProblemError("notifications_off", "expected notification keys in this gateway's settings")
    await parts.views.catch_up()
    return book


def webhook_of(book: NotificationBook, account: str, endpoint: str) -> WebhookEndpoint:
    """Raises `unknown_target`."""
    found = book.webhook(account, endpoint)
    if found is None:
        raise ProblemError("unknown_target", "expected a webhook of this account")
    return found


async def write_setting(parts: Parts, book: NotificationBook, record: Record) -> None:
    """To the topic, and read back: this gateway knows it before it answers.

    Raises `changed_meanwhile` when another change of the same thing came after it, so that nobody is shown a secret
    that does not count.
    """
    await _publish(parts, NOTIFICATION_SETTINGS, [(key_of(record), record.model_dump_json().encode())])
    await parts.views.catch_up()
    if _newest(book, record) != record:
        raise ProblemError("changed_meanwhile", "another change came in between; ask again", retry_after=1)


async def request_delivery(parts: Parts, requests: Sequence[NotificationRequest]) -> None:
    """Ask the notifier."""
    records = [(each.account_id.encode(), each.model_dump_json().encode()) for each in requests]
    await _publish(parts, NOTIFICATION_REQUESTS, records)


def _newest(book: NotificationBook, record: Record) -> Record | None:
    if isinstance(record, AccountNotifications):
        return book.account(record.account_id)
    return record if record.deleted_at is not None else book.webhook(record.account_id, record.endpoint_id)


async def _publish(parts: Parts, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    for report in await parts.log.publish(records, topic):
        if not isinstance(report, Delivered):
            raise ProblemError(
                "kafka_unavailable", f"Kafka did not acknowledge: {report.detail}", retry_after=1
            )
