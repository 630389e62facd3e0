"""Deliveries as they begin: one for each alert and target of its account, and those that somebody asks for."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from pipeline.notifications.book import NotificationBook
from pipeline.notifications.changes import Change, host_of, masked
from pipeline.notifications.keys import UNSIGNED, NotificationKeys
from schemas.account_alert import AccountAlert
from schemas.alert_delivery import AlertDelivery
from schemas.notification_request import NotificationRequest

REDELIVERY_DAYS_MAX: Final = 30
"""Since the alert: within the retention of the deliveries' topic, which is the notifier's memory of what is open."""
REQUEST_AGE_MAX: Final = timedelta(hours=72)
"""An older request counts for nothing."""
_NOTHING: Final = Decimal(0)
OPEN: Final = frozenset({"pending", "retrying"})


class Target(NamedTuple):
    """Whom to tell."""

    channel: Literal["email", "webhook"]
    target_id: str
    shown: str


def targets(book: NotificationBook, account: str) -> list[Target]:
    """All of an account: recipients, then webhooks."""
    settings = book.account(account)
    recipients = [] if settings is None else settings.recipients
    return [
        *(Target("email", each.recipient_id, masked(each.address)) for each in recipients),
        *(Target("webhook", each.endpoint_id, host_of(each.url)) for each in book.webhooks(account)),
    ]


def delivery_id(alert_id: str, target_id: str) -> str:
    """The same for the same alert and target, whoever works it out."""
    return "dlv_" + sha256(f"{alert_id}\0{target_id}".encode()).hexdigest()[:32]


def begun(alert: AccountAlert, target: Target, at: datetime) -> AlertDelivery:
    """The first state of a delivery."""
    return AlertDelivery(
        **_beginning(alert.alert_id, target, at),
        account_id=alert.account_id,
        kind=alert.kind,
        threshold=alert.threshold,
        used=alert.used,
        base=alert.base,
        period_start=alert.period_start,
        period_end=alert.period_end,
        accepted_at=alert.accepted_at,
    )


def requested_tests(
    keys: NotificationKeys,
    account: str,
    found: Iterable[Target],
    *,
    test_id: str,
    change: Change,
) -> list[NotificationRequest]:
    """Requests to send a test to each of these targets."""
    return [
        _request(
            keys,
            "test",
            AlertDelivery(
                **_beginning(f"{account}:test:{test_id}", each, change.at),
                account_id=account,
                kind="test",
                threshold=None,
                used=_NOTHING,
                base=_NOTHING,
                period_start=change.at,
                period_end=change.at,
                accepted_at=change.at,
            ),
            change,
        )
        for each in found
    ]


def again(keys: NotificationKeys, delivery: AlertDelivery, change: Change) -> NotificationRequest:
    """The request to deliver once more what has come to an end."""
    return _request(keys, "redeliver", delivery, change)


def is_too_old(delivery: AlertDelivery, at: datetime) -> bool:
    """Whether it cannot be delivered once more."""
    return at - delivery.accepted_at > timedelta(days=REDELIVERY_DAYS_MAX)


def _beginning(alert_id: str, target: Target, at: datetime) -> dict[str, Any]:
    return {
        "delivery_id": delivery_id(alert_id, target.target_id),
        "alert_id": alert_id,
        "channel": target.channel,
        "target_id": target.target_id,
        "target": target.shown,
        "status": "pending",
        "attempts": 0,
        "redeliveries": 0,
        "last_code": None,
        "last_error": "",
        "next_attempt_at": None,
        "updated_at": at,
        "seq": 1,
    }


def _request(
    keys: NotificationKeys,
    kind: Literal["test", "redeliver"],
    delivery: AlertDelivery,
    change: Change,
) -> NotificationRequest:
    return keys.signed(
        NotificationRequest(
            kind=kind,
            account_id=delivery.account_id,
            delivery=delivery,
            requested_at=change.at,
            requested_by=change.by,
            keyid="",
            signature=UNSIGNED,
        )
    )
