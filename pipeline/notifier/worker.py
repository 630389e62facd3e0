"""The notifier's loop: reads alerts and requests as one of a group, keeps deliveries moving, writes how they end.

One thread has Kafka, another all that is outside. The assignor is RANGE over equal partition counts: partition p of
both inputs, and with it that of the deliveries, goes to one member.
"""

import logging
import random
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from pipeline.client.origin import now
from pipeline.domain.instants import as_datetime
from pipeline.gateway.tail import Tail
from pipeline.kafka import Consumer, KafkaException, Message, TopicPartition, consumer, topic_name
from pipeline.logs import log_to_stderr
from pipeline.notifications.book import NotificationBook
from pipeline.notifications.keys import NoNotificationKeyError, NotificationKeys
from pipeline.notifier.delivery_log import DeliveryLog
from pipeline.notifier.metrics import Metrics
from pipeline.notifier.outside import STOP_SECONDS_MAX, Ended, Outside
from pipeline.notifier.partition import DeliveryPartition
from pipeline.notifier.schedule import Limits, Receiver, Schedule
from pipeline.settings import NotifierSettings, Settings
from pipeline.stopping import stop_asked
from pipeline.telemetry import listen
from schemas.alert_delivery import AlertDelivery
from schemas.topics import ACCOUNT_ALERTS, ALERT_DELIVERIES, NOTIFICATION_REQUESTS, NOTIFICATION_SETTINGS

POLL_SECONDS: Final = 0.1
POLL_RECORDS_MAX: Final = 500
START_SECONDS_MAX: Final = 120
"""For reading all accounts' settings."""
SESSION_TIMEOUT_MS: Final = 6000
COMMITTED_TIMEOUT_SECONDS: Final = 30
MAIL_SERVER: Final = "mail server"
_LOG: Final = logging.getLogger(__name__)

Scheduled = tuple[DeliveryPartition, str]
"""A delivery: its partition, and its id there."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Any error of Kafka's is raised: the process ends and is started again."""
    log_to_stderr(settings.log)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # It would log whole URLs.
    serve(settings, stop_asked())


def serve(settings: Settings, stop: threading.Event) -> None:
    """As `run`, until `stop` is set. Raises NoNotificationKeyError when there is no key."""
    keys = NotificationKeys.of(settings.notifier)
    if keys is None:
        raise NoNotificationKeyError(settings.notifier.key_id)
    book, metrics = NotificationBook(keys), Metrics()
    listen(settings.metrics, metrics.registry)
    tail = Tail(
        settings,
        (NOTIFICATION_SETTINGS,),
        begin="earliest",
        take=lambda messages: _apply(book, messages),
        moved=lambda: None,
    )
    with closing(tail), closing(Outside(settings, book)) as outside:
        _read_settings(tail, stop)
        notifier = Notifier(settings, book, outside, metrics)
        with closing(notifier):
            while not stop.is_set():
                if tail.failed is not None:
                    raise tail.failed
                notifier.turn()
            notifier.finish()


def _apply(book: NotificationBook, messages: list[Message]) -> None:
    for message in messages:
        value = message.value()
        book.apply(value if isinstance(value, bytes) else None)


def _read_settings(tail: Tail, stop: threading.Event) -> None:
    tail.start()
    ends = tail.ends()
    until = time.monotonic() + START_SECONDS_MAX
    while any(tail.reached[place] < end for place, end in ends.items()) and tail.failed is None:
        if time.monotonic() > until:
            raise TimeoutError(f"expected to read the notification settings within {START_SECONDS_MAX} s")
        if stop.wait(POLL_SECONDS):
            return


class Notifier:
    """One member of the notifiers' group."""

    def __init__(
        self, settings: Settings, book: NotificationBook, outside: Outside, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._book = book
        self._outside = outside
        self._metrics = metrics
        self._partitions: dict[int, DeliveryPartition] = {}
        self._schedule: Schedule[Scheduled] = Schedule(_limits(settings.notifier))
        self._running = 0
        self._paused = False
        self._alerts = topic_name(settings.kafka, ACCOUNT_ALERTS)
        self._requests = topic_name(settings.kafka, NOTIFICATION_REQUESTS)
        self._deliveries = topic_name(settings.kafka, ALERT_DELIVERIES)
        options: dict[str, Any] = {
            "partition.assignment.strategy": "range",
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "auto.offset.reset": "earliest",
        }
        self._consumer = consumer(settings.kafka, group_id=f"{settings.worker.app_id}-notifier", **options)
        self._consumer.subscribe(
            [self._alerts, self._requests],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def turn(self) -> None:
        """Read, hear what has ended, write, start what is due."""
        self._read_further()
        at = as_datetime(now())
        for message in self._consumer.consume(POLL_RECORDS_MAX, POLL_SECONDS):
            self._take(message, at)
        self._settle()
        for (partition, name), receiver in self._schedule.take(time.monotonic()):
            delivery = partition.open.get(name)
            if partition.is_lost or delivery is None:
                self._schedule.done(receiver)
                continue
            self._running += 1
            self._outside.start(partition, delivery, receiver)
        self._tell()

    def finish(self) -> None:
        """Hear and write what ends within a bound; begin nothing more."""
        until = time.monotonic() + STOP_SECONDS_MAX
        while self._running and time.monotonic() < until:
            self._consumer.poll(POLL_SECONDS)
            self._settle()

    def close(self) -> None:
        """Leave the group, so that the partitions go on at once."""
        self._forget_partitions()
        self._consumer.close()

    def _take(self, message: Message, at: datetime) -> None:
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        topic, number, offset = message.topic(), message.partition(), message.offset()
        assert topic is not None, "a record has a topic"
        assert number is not None, "and a partition"
        assert offset is not None, "and an offset"
        partition, value = self._partitions.get(number), message.value()
        if partition is None:
            return  # Revoked while this poll was under way.
        if topic == self._alerts:
            partition.take_alert(topic, offset, value or b"", at)
        elif not partition.take_request(topic, offset, value or b"", at):
            self._metrics.requests_refused.inc()

    def _settle(self) -> None:
        for ended in self._outside.ended():
            self._hear(ended)
        for partition in self._partitions.values():
            for delivery in partition.write(self._consumer):
                self._add(partition, delivery)

    def _hear(self, ended: Ended) -> None:
        self._running -= 1
        self._schedule.done(ended.receiver)
        channel = ended.receiver.channel
        self._metrics.seconds.labels(channel).observe(ended.seconds)
        if ended.partition.is_lost:
            return  # Whoever has it now tries again, under the same id.
        chance = random.random()  # noqa: S311  (it spreads tries, it keeps no secret)
        state = ended.partition.finish(ended.delivery_id, ended.said, as_datetime(now()), chance)
        self._metrics.attempts.labels(channel, state.status).inc()

    def _add(self, partition: DeliveryPartition, delivery: AlertDelivery) -> None:
        wait = 0.0
        if delivery.next_attempt_at is not None:
            wait = (delivery.next_attempt_at - as_datetime(now())).total_seconds()
        receiver = Receiver(delivery.channel, MAIL_SERVER if delivery.channel == "email" else delivery.target)
        self._schedule.add((partition, delivery.delivery_id), receiver, time.monotonic() + wait)

    def _read_further(self) -> None:
        """Pause when no further delivery may wait: polling goes on, or Kafka takes the partitions away."""
        waiting = sum(each.waiting for each in self._partitions.values())
        paused = waiting >= self._settings.notifier.open_deliveries_max
        if paused != self._paused:
            change = self._consumer.pause if paused else self._consumer.resume
            change(self._consumer.assignment())
            self._paused = paused

    def _tell(self) -> None:
        self._metrics.open.set(sum(len(each.open) for each in self._partitions.values()))
        self._metrics.running.set(self._running)
        self._metrics.settings_refused.set(self._book.refused)

    def _on_assign(self, member: Consumer, assigned: list[TopicPartition]) -> None:
        """Fence each partition, then read where it stands: positions and open deliveries."""
        self._forget_partitions()
        for number in sorted({place.partition for place in assigned}):
            log = DeliveryLog(self._settings, number)
            place = TopicPartition(self._deliveries, number)
            (mark,) = member.committed([place], COMMITTED_TIMEOUT_SECONDS)
            partition = DeliveryPartition(
                number, log, max(mark.offset, 0), self._book, self._settings.notifier
            )
            self._partitions[number] = partition
            for delivery in partition.open.values():
                self._add(partition, delivery)
        # After the fence: a transaction of the owner before has ended now, and with it his positions.
        begins = member.committed(assigned, COMMITTED_TIMEOUT_SECONDS)
        member.assign(begins)
        _LOG.info("holds partitions %s", sorted(self._partitions))

    def _on_revoke(self, member: Consumer, _revoked: Iterable[TopicPartition]) -> None:
        self._forget_partitions()
        member.unassign()

    def _forget_partitions(self) -> None:
        for partition in self._partitions.values():
            partition.is_lost = True
        self._partitions = {}
        self._paused = False


def _limits(settings: NotifierSettings) -> dict[str, Limits]:
    return {
        "email": Limits(settings.smtp_in_flight_max, settings.smtp_in_flight_max),
        "webhook": Limits(settings.webhooks_in_flight_max, settings.receiver_in_flight_max),
    }
