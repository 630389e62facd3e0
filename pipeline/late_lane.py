"""The late lane: puts usage back that the stream set aside because it came later than the hot window.

It reads the dead letters; for each one of reason `late` it looks into ClickHouse whether the event was ever answered,
and publishes what it found as a signed command. Any number of copies may run, crash and start again: a letter that is
looked at twice is put back once, because the stream knows the event by then. Its place in the dead letters is
committed after the commands are acknowledged.
"""

import logging
import threading
from contextlib import closing
from typing import Any, Final

import orjson

from pipeline.clickhouse import open_client
from pipeline.client.commands import command_key
from pipeline.client.events import encode
from pipeline.client.publisher import Publisher
from pipeline.crash_points import Phase, reached
from pipeline.domain.reasons import Reason
from pipeline.kafka import Consumer, KafkaException, Message, consumer, topic_name
from pipeline.logs import log_to_stderr
from pipeline.readmission import Letter, NotStoredError, Readmission, letter_of
from pipeline.settings import Settings
from pipeline.stopping import stop_asked
from pipeline.telemetry import LATE_EVENTS, listen
from schemas.topics import DEAD_LETTERS

SOURCE: Final = "//creditstream/late-lane"
LETTERS_MAX: Final = 250
"""Looked up at a time. Each repeats its event, so a few hundred of the largest are a hundred megabytes."""
FETCH_QUEUE_KBYTES: Final = 16_384
"""Read ahead of that."""
POLL_SECONDS: Final = 1.0
SESSION_TIMEOUT_MS: Final = 6000
"""As workers and sinks: so long does who was killed hold its partitions. librdkafka's 45 s would all be waited for."""
STORED_SECONDS_MAX: Final = 60
"""For ClickHouse to have what a look must see; then it is tried again, and said."""
_LATE: Final = b'"reason":"late"'

_LOG: Final = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Put letters back until SIGTERM or SIGINT. Any error is raised: the process ends and is started again."""
    log_to_stderr(settings.log)
    listen(settings.metrics)
    serve(settings, stop_asked())


def serve(settings: Settings, stop: threading.Event) -> None:
    """As `run`, until `stop` is set. Raises ValueError when there is no key to sign with."""
    key = command_key(settings)
    if key is None:
        raise ValueError("expected a command key: the late lane signs what it puts back")
    options: dict[str, Any] = {
        "auto.offset.reset": "earliest",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "queued.max.messages.kbytes": FETCH_QUEUE_KBYTES,
    }
    reader = consumer(settings.kafka, group_id=f"{settings.worker.app_id}-late-lane", **options)
    readmission = Readmission(settings, open_client(settings.clickhouse), key, source=SOURCE)
    with closing(reader), closing(readmission), Publisher(settings) as publisher:
        reader.subscribe([topic_name(settings.kafka, DEAD_LETTERS)])
        while not stop.is_set():
            messages = reader.consume(LETTERS_MAX, POLL_SECONDS)
            _require_no_error(messages)
            letters = [letter for message in messages if (letter := _late(message)) is not None]
            if letters and not _put_back(readmission, publisher, letters, stop):
                return
            _commit(reader, messages)


def _put_back(
    readmission: Readmission, publisher: Publisher, letters: list[Letter], stop: threading.Event
) -> bool:
    """Whether it was done; not when we are asked to stop before ClickHouse has what a look must see."""
    while not stop.is_set():
        reached(Phase.LATE_LANE_LOOKING)
        try:
            commands = readmission.commands(letters, seconds_max=STORED_SECONDS_MAX, give_up=stop.is_set)
        except NotStoredError as error:
            _LOG.warning("%d late events wait: %s", len(letters), error)
            continue
        reached(Phase.LATE_LANE_LOOKED)
        publisher.publish_all([encode(command) for command in commands])
        reached(Phase.LATE_LANE_PUBLISHED)
        known = sum("known" in command["data"] for command in commands)
        LATE_EVENTS.labels("yes").inc(known)
        LATE_EVENTS.labels("no").inc(len(commands) - known)
        _LOG.info("%d late events put back, %d of them known", len(commands), known)
        return True
    return False


def _late(message: Message) -> Letter | None:
    value = message.value() or b""
    if _LATE not in value:  # Most letters are none: parsing them all would be most of the work.
        return None
    letter = orjson.loads(value)
    return letter_of(letter) if letter["reason"] == Reason.LATE else None


def _require_no_error(messages: list[Message]) -> None:
    for message in messages:
        error = message.error()
        if error is not None:
            raise KafkaException(error)


def _commit(reader: Consumer, messages: list[Message]) -> None:
    if messages:
        for message in messages:
            reader.store_offsets(message=message)
        reader.commit(asynchronous=False)
