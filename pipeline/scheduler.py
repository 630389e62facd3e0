"""The scheduler: appends a tick to every partition of the input log, so that time passes for idle accounts too.

A tick says nothing but "look at the clock", and the clock is the broker's append time. So any number of schedulers may
run, crash and start again: more ticks change no result, and where none come, each account is still right at its next
event. For an account that is not due a tick makes no record; a tick costs one small transaction, the cursor's.

One tick lets time pass for at most `rules.boundary_accounts_max` idle accounts of a partition. When more are due at
once, they take (accounts ÷ partitions ÷ boundary_accounts_max) × tick_seconds: by default 14 minutes for a million on
four partitions. Whoever is used meanwhile is brought up to date by that event, and all is booked at the instant it
was due.
"""

import logging
import threading
import time
from itertools import count
from typing import Any, Final
from uuid import uuid4

import orjson

from pipeline.crash_points import Phase, reached
from pipeline.kafka import KafkaError, KafkaException, Message, Producer, producer, topic_name
from pipeline.logs import log_to_stderr
from pipeline.settings import Settings
from pipeline.stopping import stop_asked
from pipeline.telemetry import TICKS, listen
from schemas.account_command import TICK_TYPE
from schemas.topics import ACCOUNT_EVENTS

SOURCE: Final = "//creditstream/scheduler"
FLUSH_MARGIN_SECONDS: Final = 5
"""Beyond the delivery timeout, after which every tick has an answer."""

_LOG: Final = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT. Any error is raised: the process ends and is started again."""
    log_to_stderr(settings.log)
    listen(settings.metrics)
    serve(settings, stop_asked())


def serve(settings: Settings, stop: threading.Event) -> None:
    """As `run`, until `stop` is set. A tick that was missed is not made up for: the next one says the same."""
    options: dict[str, Any] = {"linger.ms": 0, "delivery.timeout.ms": settings.client.delivery_timeout_ms}
    ticker, name = producer(settings.kafka, **options), uuid4().hex
    _LOG.info("ticks every %s s to %d partitions", settings.scheduler.tick_seconds, settings.kafka.partitions)
    for number in count():
        due = time.monotonic() + settings.scheduler.tick_seconds
        _tick(ticker, settings, f"{name}-{number}")
        TICKS.inc()
        if stop.wait(max(due - time.monotonic(), 0)):
            return


def _tick(ticker: Producer, settings: Settings, tick_id: str) -> None:
    """One tick to each partition. Raises KafkaException when one was not acknowledged."""
    topic = topic_name(settings.kafka, ACCOUNT_EVENTS)
    failed: list[KafkaException] = []

    def told(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failed.append(KafkaException(error))

    reached(Phase.SCHEDULER_TICKING)
    for partition in range(settings.kafka.partitions):
        tick = {"specversion": "1.0", "id": f"{tick_id}-{partition}", "source": SOURCE, "type": TICK_TYPE}
        headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json")]
        ticker.produce(topic, orjson.dumps(tick), partition=partition, headers=headers, on_delivery=told)
    reached(Phase.SCHEDULER_TICKED)
    left = ticker.flush(settings.client.delivery_timeout_ms / 1000 + FLUSH_MARGIN_SECONDS)
    assert left == 0, f"expected an answer to every tick within the delivery timeout, {left} have none"
    if failed:
        raise failed[0]
