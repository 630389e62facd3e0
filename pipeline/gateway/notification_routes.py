"""`/v1/accounts/{account_id}/notifications…`: whom alerts are sent to, and what became of them.

Settings are signed records on a topic of their own; a test and a redelivery are signed requests to the notifier.
"""

from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ValidationError

from pipeline.client.origin import new_id
from pipeline.gateway.access import AccountInPath, Bills, allowed
from pipeline.gateway.account_routes import InPage, InTime, page_of
from pipeline.gateway.audit import audited
from pipeline.gateway.json_answers import json_answer
from pipeline.gateway.keys import Holder
from pipeline.gateway.limits import object_of
from pipeline.gateway.notification_book import book_of, clock, request_delivery, webhook_of, write_setting
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError
from pipeline.gateway.times import zone_of
from pipeline.notifications import changes, deliveries
from pipeline.notifications.book import NotificationBook
from pipeline.query import pages
from pipeline.query.deliveries import delivery
from schemas.alert_delivery import DELIVERY_ID_PATTERN, AlertDelivery
from schemas.http_api import (
    DeliveriesPage,
    NewWebhookAnswer,
    NewWebhookRequest,
    NotificationsAnswer,
    NotificationsRequest,
    QueuedAnswer,
    TestRequest,
    WebhookAnswer,
    WebhooksAnswer,
)
from schemas.notification_settings import ENDPOINT_ID_PATTERN, WebhookEndpoint

router: Final = APIRouter(prefix="/v1/accounts/{account_id}/notifications", tags=["Notifications"])
READS: Final = [Depends(allowed("read"))]
EndpointId = Annotated[str, Path(pattern=ENDPOINT_ID_PATTERN)]
DeliveryId = Annotated[str, Path(pattern=DELIVERY_ID_PATTERN)]
T = TypeVar("T", bound=BaseModel)


@router.get("", dependencies=READS)
async def notifications(request: Request, account_id: AccountInPath) -> NotificationsAnswer:
    """Recipients, language and time zone of mails, and webhooks."""
    return _settings(await book_of(parts_of(request)), account_id)


@router.put("")
async def set_notifications(
    request: Request, holder: Bills, account_id: AccountInPath
) -> NotificationsAnswer:
    """Say whom to write to; it replaces what was. Webhooks stay as they are."""
    parts = parts_of(request)
    wanted = await _wanted(request, parts, NotificationsRequest)
    try:
        zone_of(wanted.time_zone)
    except ProblemError as error:
        raise ProblemError("invalid_data", str(error.detail), pointer="/time_zone") from error
    book = await book_of(parts)
    record = changes.with_recipients(
        book,
        account_id,
        addresses=wanted.recipients,
        language=wanted.language,
        time_zone=wanted.time_zone,
        change=_change(holder),
    )
    async with audited(parts, request, holder, "notifications.set", account=account_id):
        await write_setting(parts, book, record)
    return _settings(book, account_id)


@router.get("/webhooks", dependencies=READS)
async def list_webhooks(request: Request, account_id: AccountInPath) -> WebhooksAnswer:
    """Webhook endpoints without their secrets, the oldest first."""
    book = await book_of(parts_of(request))
    return WebhooksAnswer(webhooks=[_webhook(each) for each in book.webhooks(account_id)])


@router.post("/webhooks", status_code=201)
async def create_webhook(request: Request, holder: Bills, account_id: AccountInPath) -> NewWebhookAnswer:
    """Make an endpoint. Its secret is shown this once."""
    parts = parts_of(request)
    wanted = await _wanted(request, parts, NewWebhookRequest)
    book = await book_of(parts)
    try:
        made = changes.new_webhook(
            book,
            account_id,
            parts.settings.notifier,
            url=wanted.url,
            description=wanted.description,
            change=_change(holder),
        )
    except changes.NotificationError as error:
        raise ProblemError("invalid_data", str(error), pointer=error.pointer) from error
    async with audited(
        parts, request, holder, "webhook.create", account=account_id, command_id=made.endpoint_id
    ):
        await write_setting(parts, book, made)
    return _with_secret(book, made)


@router.post("/webhooks/{endpoint_id}/rotate")
async def rotate_webhook(
    request: Request, holder: Bills, account_id: AccountInPath, endpoint_id: EndpointId
) -> NewWebhookAnswer:
    """A new secret, shown this once. The old one signs beside it for a while, so that no message is refused."""
    parts = parts_of(request)
    book = await book_of(parts)
    known = webhook_of(book, account_id, endpoint_id)
    overlap = timedelta(hours=parts.settings.notifier.secret_overlap_hours)
    made = changes.rotated(book.keys, known, overlap=overlap, change=_change(holder))
    async with audited(parts, request, holder, "webhook.rotate", account=account_id, command_id=endpoint_id):
        await write_setting(parts, book, made)
    return _with_secret(book, made)


@router.delete("/webhooks/{endpoint_id}")
async def delete_webhook(
    request: Request, holder: Bills, account_id: AccountInPath, endpoint_id: EndpointId
) -> WebhooksAnswer:
    """Delete an endpoint: nothing is sent there any more. Answers those that are left."""
    parts = parts_of(request)
    book = await book_of(parts)
    known = webhook_of(book, account_id, endpoint_id)
    ended = changes.deleted(book.keys, known, _change(holder))
    async with audited(parts, request, holder, "webhook.delete", account=account_id, command_id=endpoint_id):
        await write_setting(parts, book, ended)
    return WebhooksAnswer(webhooks=[_webhook(each) for each in book.webhooks(account_id)])


@router.post("/test", status_code=202)
async def send_test(request: Request, holder: Bills, account_id: AccountInPath) -> QueuedAnswer:
    """Send a test to one recipient or webhook, or to all of the account."""
    parts = parts_of(request)
    wanted = await _wanted(request, parts, TestRequest)
    book = await book_of(parts)
    found = deliveries.targets(book, account_id)
    if wanted.target_id is not None:
        found = [each for each in found if each.target_id == wanted.target_id]
    if not found:
        raise ProblemError("unknown_target", "expected a recipient or a webhook of this account")
    queued = deliveries.requested_tests(
        book.keys, account_id, found, test_id=new_id(), change=_change(holder)
    )
    async with audited(parts, request, holder, "notifications.test", account=account_id):
        await request_delivery(parts, queued)
    return QueuedAnswer(delivery_ids=[each.delivery.delivery_id for each in queued])


@router.get("/deliveries", response_model=DeliveriesPage, dependencies=READS)
async def list_deliveries(
    request: Request, account_id: AccountInPath, asked: InTime, page: InPage
) -> Response:
    """Each alert to each recipient and webhook, the newest alert first: how far it came. About a second behind."""
    return json_answer(await page_of(parts_of(request), pages.DELIVERIES, account_id, asked.filters, page))


@router.post("/deliveries/{delivery_id}/redeliver", status_code=202)
async def redeliver(
    request: Request, holder: Bills, account_id: AccountInPath, delivery_id: DeliveryId
) -> QueuedAnswer:
    """Deliver once more, with the same id, what was delivered or is dead. Receivers see that it is no new alert."""
    parts = parts_of(request)
    book = await book_of(parts)
    row = await parts.store.ask(lambda client: delivery(client, account_id, delivery_id))
    if row is None:
        raise ProblemError(
            "unknown_delivery", "nothing is known of this delivery (it is about a second behind)"
        )
    known = AlertDelivery.model_validate_json(orjson.dumps(row))
    if known.status in deliveries.OPEN:
        raise ProblemError("delivery_open", f"expected an ended delivery, this one is {known.status}")
    if deliveries.is_too_old(known, clock()):
        detail = f"expected an alert of the last {deliveries.REDELIVERY_DAYS_MAX} days"
        raise ProblemError("delivery_too_old", detail)
    asked = deliveries.again(book.keys, known, _change(holder))
    async with audited(
        parts, request, holder, "notifications.redeliver", account=account_id, command_id=delivery_id
    ):
        await request_delivery(parts, [asked])
    return QueuedAnswer(delivery_ids=[delivery_id])


def _change(holder: Holder) -> changes.Change:
    return changes.Change(clock(), f"key {holder.key_id}")


async def _wanted(request: Request, parts: Parts, model: type[T]) -> T:
    body = await object_of(request, parts.settings.gateway)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        pointer = "".join(f"/{part}" for part in first["loc"])
        raise ProblemError("invalid_data", first["msg"], pointer=pointer) from error


def _settings(book: NotificationBook, account: str) -> NotificationsAnswer:
    known = book.account(account)
    return NotificationsAnswer(
        account_id=account,
        recipients=[] if known is None else known.recipients,
        language="en" if known is None else known.language,
        time_zone="UTC" if known is None else known.time_zone,
        webhooks=[_webhook(each) for each in book.webhooks(account)],
    )


def _webhook(webhook: WebhookEndpoint) -> WebhookAnswer:
    return WebhookAnswer(**_fields(webhook))


def _with_secret(book: NotificationBook, webhook: WebhookEndpoint) -> NewWebhookAnswer:
    secret = changes.shown_secret(book.keys, webhook, webhook.secrets[0])
    assert secret is not None, "the newest secret is of the key that signs"
    return NewWebhookAnswer(**_fields(webhook), secret=secret)


def _fields(webhook: WebhookEndpoint) -> dict[str, Any]:
    ends = [each.expires_at for each in webhook.secrets if each.expires_at is not None]
    return {
        "endpoint_id": webhook.endpoint_id,
        "url": webhook.url,
        "description": webhook.description,
        "created_at": webhook.created_at,
        "updated_at": webhook.updated_at,
        "previous_secret_until": ends[0] if ends else None,
    }
