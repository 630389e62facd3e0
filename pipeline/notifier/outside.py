"""Tries deliveries: finds where each goes by the settings of now, sends it, and hands on what was said.

An event loop in a thread of its own, so that nothing outside holds up Kafka.
"""

import asyncio
import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from pipeline.client.origin import now
from pipeline.domain.instants import as_datetime
from pipeline.notifications.book import NotificationBook
from pipeline.notifications.changes import signing_secrets
from pipeline.notifier.attempts import Said
from pipeline.notifier.mail import Outbox, SmtpServer, compose
from pipeline.notifier.partition import DeliveryPartition
from pipeline.notifier.schedule import Receiver
from pipeline.notifier.webhook import Poster
from pipeline.settings import Settings
from schemas.alert_delivery import AlertDelivery

STOP_SECONDS_MAX: Final = 5
"""For tries that have begun when the process is told to stop. What does not end is tried again under its id."""
NO_TARGET: Final = Said(None, "the settings have no such recipient or webhook any more", is_final=True)
NO_SECRET: Final = Said(None, "the key of the webhook's secret is not configured: rotate the secret")
_LOG: Final = logging.getLogger(__name__)


class Ended(NamedTuple):
    """A try that has ended."""

    partition: DeliveryPartition
    delivery_id: str
    receiver: Receiver
    said: Said
    seconds: float


class Outside:
    """Mail server and webhooks."""

    def __init__(self, settings: Settings, book: NotificationBook) -> None:
        self._settings = settings.notifier
        self._book = book
        self._mails = SmtpServer(settings.notifier) if settings.notifier.smtp_host else Outbox(settings.home)
        self._poster = Poster(settings.notifier)
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outside", daemon=True)
        self._thread.start()

    def start(self, partition: DeliveryPartition, delivery: AlertDelivery, receiver: Receiver) -> None:
        """Try it; `ended` has it in the end, whatever happens."""
        asyncio.run_coroutine_threadsafe(self._try(partition, delivery, receiver), self._loop)

    def ended(self) -> list[Ended]:
        """What has ended since the last call."""
        found: list[Ended] = []
        while True:
            try:
                found.append(self._ended.get_nowait())
            except Empty:
                return found

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._poster.close()

    async def _try(self, partition: DeliveryPartition, delivery: AlertDelivery, receiver: Receiver) -> None:
        began = time.monotonic()
        try:
            said = await self._send(delivery)
        except Exception as error:  # noqa: BLE001  (ours; it must end this try, not everybody's mail)
            named = {"account": delivery.account_id, "delivery_id": delivery.delivery_id}
            _LOG.exception("a delivery failed here", extra=named)
            said = Said(None, f"a fault of the notifier's: {type(error).__name__}")
        self._ended.put(Ended(partition, delivery.delivery_id, receiver, said, time.monotonic() - began))

    async def _send(self, delivery: AlertDelivery) -> Said:
        at = as_datetime(now())
        if delivery.channel == "email":
            of = self._book.account(delivery.account_id)
            recipients = () if of is None else of.recipients
            found = next((each for each in recipients if each.recipient_id == delivery.target_id), None)
            if of is None or found is None:
                return NO_TARGET
            mail = compose(delivery, found, of, self._settings, self._book.keys, at)
            return await self._mails.send(mail, delivery)
        webhook = self._book.webhook(delivery.account_id, delivery.target_id)
        if webhook is None:
            return NO_TARGET
        secrets = signing_secrets(self._book.keys, webhook, at)
        return await self._poster.post(webhook.url, delivery, secrets, at) if secrets else NO_SECRET
