"""One partition at one notifier: alerts and requests in, deliveries and their states out.

A state counts once it is committed; only then is a delivery tried, or over. So whoever comes after a crash finds every
delivery that was begun, and tries again what nobody wrote the end of, under the same id.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import Final

from pydantic import ConfigDict, ValidationError

from pipeline.kafka import Consumer
from pipeline.notifications.book import NotificationBook
from pipeline.notifications.deliveries import OPEN, REQUEST_AGE_MAX, begun, is_too_old, targets
from pipeline.notifier.attempts import Said, after, begun_again, dead_at_once
from pipeline.notifier.delivery_log import DeliveryLog
from pipeline.settings import NotifierSettings
from schemas.account_alert import AccountAlert
from schemas.alert_delivery import AlertDelivery
from schemas.notification_request import NotificationRequest

MARK_SECONDS: Final = 5.0
"""Between two searches for the oldest open delivery."""
_LOG: Final = logging.getLogger(__name__)


class DeliveryPartition:
    """Called from one thread."""

    def __init__(
        self, number: int, log: DeliveryLog, begin: int, book: NotificationBook, settings: NotifierSettings
    ) -> None:
        self.number = number
        self.is_lost = False
        """Another notifier has it: what still runs here ends without a word."""
        self._log = log
        self._book = book
        self._settings = settings
        found = log.read(begin)
        self.open = {name: state for name, (state, _) in found.items()}
        self._places = {name: offset for name, (_, offset) in found.items()}
        self._mark = begin
        self._end = max([begin, *(offset + 1 for offset in self._places.values())])
        self._marked_at = 0.0
        self._unwritten: dict[str, AlertDelivery] = {}
        self._positions: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """Deliveries that are open, or will be."""
        return len(self.open) + len(self._unwritten)

    def take_alert(self, topic: str, offset: int, value: bytes, at: datetime) -> None:
        """An alert of the worker's: a delivery for each of the account's targets."""
        self._positions[topic] = offset + 1
        try:
            alert = _GrowingAlert.model_validate_json(value)
        except ValidationError as error:  # The worker of a later release: others' alerts go on.
            where = {"topic": topic, "partition": self.number, "offset": offset}
            _LOG.error(
                "an alert of no known kind: %s", error.errors(include_input=False)[0]["msg"], extra=where
            )
            return
        is_old = at - alert.accepted_at > timedelta(hours=self._settings.alert_age_hours_max)
        for target in targets(self._book, alert.account_id):
            delivery = begun(alert, target, at)
            if delivery.delivery_id in self.open:
                continue
            if is_old:
                why = (
                    f"the alert was more than {self._settings.alert_age_hours_max} hours old when it was read"
                )
                delivery = dead_at_once(delivery, why)
            self._unwritten[delivery.delivery_id] = delivery

    def take_request(self, topic: str, offset: int, value: bytes, at: datetime) -> bool:
        """A test or a redelivery; whether it counts. What is open already is delivered anyway."""
        self._positions[topic] = offset + 1
        request = _verified(value, self._book, at)
        if request is None:
            return False
        delivery = request.delivery
        name = delivery.delivery_id
        if name not in self.open and name not in self._unwritten and not is_too_old(delivery, at):
            is_test = request.kind == "test"
            self._unwritten[name] = delivery if is_test else begun_again(delivery, at)
        return True

    def finish(self, name: str, said: Said, at: datetime, chance: float) -> AlertDelivery:
        """A try has ended: the delivery's next state, which counts when it is written."""
        waits = self._settings.retry_seconds
        state = after(self.open[name], said, at, waits=waits, chance=chance)
        self._unwritten[name] = state
        if state.status == "dead":
            named = {"account": state.account_id, "delivery_id": name, "attempt": state.attempts}
            _LOG.warning("a delivery is dead: %s", state.last_error, extra=named)
        return state

    def write(self, member: Consumer) -> list[AlertDelivery]:
        """Commit what has come about, if anything; the deliveries that are to be tried because of it."""
        if not self._unwritten and not self._positions:
            return []
        states = list(self._unwritten.values())
        positions = {**self._positions, self._log.topic: self._low_mark()}
        offsets = self._log.write(states, positions, member)
        if offsets is None:
            return []  # Nothing was written; the next turn tries again.
        for state, offset in zip(states, offsets, strict=True):
            self._apply(state, offset)
        self._unwritten, self._positions = {}, {}
        return [state for state in states if state.status in OPEN]

    def _apply(self, state: AlertDelivery, offset: int) -> None:
        name = state.delivery_id
        self._end = max(self._end, offset + 1)
        if state.status in OPEN:
            self.open[name], self._places[name] = state, offset
        else:
            self.open.pop(name, None)
            self._places.pop(name, None)

    def _low_mark(self) -> int:
        """An offset below which nothing is open. What is written now stands above it in any case."""
        now = time.monotonic()
        if not self._places:
            self._mark = self._end
        elif now - self._marked_at > MARK_SECONDS:
            self._marked_at = now
            self._mark = min(self._places.values())
        return self._mark


class _GrowingAlert(AccountAlert):
    """As a later release may write it."""

    model_config = ConfigDict(extra="ignore")


def _verified(value: bytes, book: NotificationBook, at: datetime) -> NotificationRequest | None:
    try:
        request = NotificationRequest.model_validate_json(value)
    except ValidationError:
        return None
    if not book.keys.are_of(request, keyid=request.keyid, signature=request.signature):
        return None
    return request if abs(at - request.requested_at) <= REQUEST_AGE_MAX else None
