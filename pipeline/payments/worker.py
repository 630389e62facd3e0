"""The payment process: each top-up order to the provider, its answer into the log as a signed command.

An order's place is committed only when its answer, and that of all before it, is acknowledged; an order that is asked
twice is charged once, by the provider's idempotency key, and given once, by the core. What gets no answer waits here
and is asked again with growing pauses; it holds up no other order until `orders_waiting_max` wait.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.client.commands import command_key, signed, unsigned_command
from pipeline.client.events import encode
from pipeline.client.origin import now_text
from pipeline.client.publisher import Publisher
from pipeline.crash_points import Phase, reached
from pipeline.kafka import Consumer, KafkaException, Message, TopicPartition, consumer, topic_name
from pipeline.logs import log_to_stderr
from pipeline.payments.provider import (
    Declined,
    HttpProvider,
    Paid,
    PaymentProvider,
    SimulatedProvider,
    UnansweredError,
)
from pipeline.settings import PaymentSettings, Settings
from pipeline.stopping import stop_asked
from pipeline.telemetry import PAYMENT_ORDERS, PAYMENTS_WAITING, listen
from schemas.topics import TOPUP_ORDERS

SOURCE: Final = "//creditstream/payments"
ORDERS_POLLED_MAX: Final = 100
POLL_SECONDS: Final = 0.5
SESSION_TIMEOUT_MS: Final = 6000
"""As workers and sinks: so long does who was killed hold its orders. librdkafka's 45 s would all be waited for."""
BACK_OFF_SECONDS_MIN: Final = 1.0
BACK_OFF_SECONDS_MAX: Final = 300.0
ASK_SECONDS_MAX: Final = 30.0
"""For one round of asking: who does not poll for five minutes loses the partitions, and could never commit."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    """An order without an answer."""

    order: dict[str, Any]
    partition: int
    offset: int
    tries: int = 0
    next_try: float = 0.0


def provider_of(settings: PaymentSettings) -> PaymentProvider:
    """The provider that the settings choose."""
    if settings.provider == "http":
        token = settings.token.get_secret_value()
        return HttpProvider(settings.url, token=token, timeout_seconds=settings.timeout_seconds)
    return SimulatedProvider(
        decline_percent=settings.simulated_decline_percent,
        unanswered_percent=settings.simulated_unanswered_percent,
        late_percent=settings.simulated_late_percent,
        twice_percent=settings.simulated_twice_percent,
        seed=settings.simulated_seed,
    )


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Any error but the provider's is raised: the process ends and is started again."""
    log_to_stderr(settings.log)
    listen(settings.metrics)
    serve(settings, provider_of(settings.payments), stop_asked())


def serve(settings: Settings, provider: PaymentProvider, stop: threading.Event) -> None:
    """As `run`, until `stop` is set. Raises ValueError when there is no key to sign with."""
    key = command_key(settings)
    if key is None:
        raise ValueError("expected a command key: the payment process signs its answers")

    with Publisher(settings) as publisher:

        def answer(order: dict[str, Any], said: Paid | Declined) -> None:
            data: dict[str, Any] = {"order": order["order_number"], "result": "succeeded"}
            if isinstance(said, Paid):
                data |= {"reference": said.reference}
            else:
                data |= {"result": "declined", "reason": said.reason}
            command = unsigned_command(
                "topup_result",
                account=order["account_id"],
                command_id=f"{order['order_id']}:{data['result']}",
                source=SOURCE,
                time=now_text(),
                data=data,
            )
            publisher.publish(*encode(signed(command, key)))
            PAYMENT_ORDERS.labels(data["result"]).inc()
            _LOG.info("an order has %s", data["result"], extra=_named(order))

        _Desk(settings, provider, answer).serve(stop)


class _Desk:
    """Orders in, answers out, and those that wait between."""

    def __init__(
        self,
        settings: Settings,
        provider: PaymentProvider,
        answer: Callable[[dict[str, Any], Paid | Declined], None],
    ) -> None:
        self._settings = settings
        self._provider = provider
        self._answer = answer
        self._waiting: list[_Waiting] = []
        self._read_to: dict[int, int] = {}
        self._paused = False

    def serve(self, stop: threading.Event) -> None:
        options: dict[str, Any] = {"auto.offset.reset": "earliest", "session.timeout.ms": SESSION_TIMEOUT_MS}
        group = f"{self._settings.worker.app_id}-payments"
        with closing(consumer(self._settings.kafka, group_id=group, **options)) as reader:
            topic = topic_name(self._settings.kafka, TOPUP_ORDERS)
            reader.subscribe([topic], on_revoke=self._forget, on_assign=self._forget)
            while not stop.is_set():
                room = self._settings.payments.orders_waiting_max - len(self._waiting)
                self._read_further(reader, paused=room <= 0)
                for message in reader.consume(max(1, min(room, ORDERS_POLLED_MAX)), POLL_SECONDS):
                    self._take(message)
                came = self._take_late_answers()
                if self._ask_due(stop) or came:
                    self._commit(reader, topic)
                PAYMENTS_WAITING.set(len(self._waiting))

    def _read_further(self, reader: Consumer, *, paused: bool) -> None:
        """Pause when no further order may wait: polling goes on, or Kafka takes the partitions away."""
        if paused != self._paused:
            (reader.pause if paused else reader.resume)(reader.assignment())
            self._paused = paused

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            raise KafkaException(error)
        partition, offset = message.partition() or 0, message.offset() or 0
        self._read_to[partition] = offset + 1
        self._waiting.append(_Waiting(orjson.loads(message.value() or b""), partition, offset))

    def _take_late_answers(self) -> bool:
        """Whether any came. One to an order that was answered before goes into the log as well: the core tells."""
        answers = self._provider.late_answers()
        for order, said in answers:
            self._answer(dict(order), said)
            self._waiting = [each for each in self._waiting if each.order["order_id"] != order["order_id"]]
        return bool(answers)

    def _ask_due(self, stop: threading.Event) -> bool:
        """Whether any order was answered. Those that have waited longest come first, as many as time allows."""
        before, began = len(self._waiting), time.monotonic()
        due = [each for each in self._waiting if each.next_try <= began]
        for each in sorted(due, key=lambda each: each.next_try):
            if stop.is_set() or time.monotonic() >= began + ASK_SECONDS_MAX:
                break
            reached(Phase.PAYMENTS_ASKING, each.partition)
            try:
                said = self._provider.charge(each.order)
            except UnansweredError as error:
                each.tries += 1
                PAYMENT_ORDERS.labels("none").inc()
                wait = min(BACK_OFF_SECONDS_MIN * 2 ** min(each.tries - 1, 16), BACK_OFF_SECONDS_MAX)
                wait *= random.uniform(0.5, 1)  # noqa: S311  (so that not all ask at once when it is back)
                each.next_try = time.monotonic() + wait
                _LOG.warning("asked again in %.0f s: %s", wait, error, extra=_named(each.order))
                continue
            reached(Phase.PAYMENTS_ANSWERING, each.partition)
            self._answer(each.order, said)
            reached(Phase.PAYMENTS_ANSWERED, each.partition)
            self._waiting.remove(each)
        return len(self._waiting) < before

    def _commit(self, reader: Consumer, topic: str) -> None:
        """Up to the first order of each partition that still waits."""
        first = dict(self._read_to)
        for each in self._waiting:
            first[each.partition] = min(first[each.partition], each.offset)
        reader.commit(
            offsets=[TopicPartition(topic, partition, offset) for partition, offset in first.items()],
            asynchronous=False,
        )

    def _forget(self, _reader: Consumer, _partitions: list[TopicPartition]) -> None:
        """Partitions come and go: whoever holds one reads it from what was committed."""
        self._waiting, self._read_to = [], {}


def _named(order: Mapping[str, Any]) -> dict[str, Any]:
    """Which order a line of the log is about."""
    return {"account": order["account_id"], "order_id": order["order_id"]}
