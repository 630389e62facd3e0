"""Asks for holds at a fixed rate, however slow the answers are, and notes when each was due, kept and answered.

Open loop: each hold has its instant, fixed before the first is sent, and counts from there. A generator that waits
for a slow answer before it asks again would leave out just those that had to wait (coordinated omission).
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from pipeline.client.commands import CommandKey, command_key, signed, unsigned_command
from pipeline.client.events import encode
from pipeline.client.origin import now_text
from pipeline.kafka import KafkaError, Message, producer, topic_name
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS, COMMAND_RESULTS
from tests.bench.reading import from_the_end

ANSWER_SECONDS_MAX: Final = 30
"""After the last hold was sent."""
LOOK_SECONDS: Final = 0.05
PACE_SECONDS: Final = 0.001
"""The longest sleep between two looks at what was acknowledged."""
_STRUCTURED_MODE: Final[list[tuple[str, str | bytes | None]]] = [
    ("content-type", b"application/cloudevents+json; charset=utf-8")
]

Position = tuple[int, int]
"""Partition and offset in the input log."""


class Kept(NamedTuple):
    """The broker's word on one hold. Epoch seconds."""

    due: float
    """When it was to be sent."""
    appended: float
    """By the broker's clock, which is this machine's; cut to the millisecond."""
    acknowledged: float
    account: bytes = b""


@dataclass(slots=True)
class Asked:
    """What became of the holds, or of whatever else was sent, in one run."""

    kept: dict[Position, Kept] = field(default_factory=dict[Position, Kept])
    answered: dict[Position, float] = field(default_factory=dict[Position, float])
    refused: int = 0


def ask(settings: Settings, accounts: Sequence[str], *, rate: float, seconds: float, name: str) -> Asked:
    """Place one-image holds, in turn over the accounts, and read every answer."""
    asked, count, key = Asked(), int(rate * seconds), command_key(settings)
    assert key is not None, "a deployment without a command key"
    holds = [_hold(accounts[number % len(accounts)], f"{name}-{number}", key) for number in range(count)]
    reader = _Reader(settings, asked, count)
    reader.ready.wait(ANSWER_SECONDS_MAX)
    send(settings, holds, rate, asked)
    reader.join(ANSWER_SECONDS_MAX)
    assert len(asked.answered) == count, f"expected {count} answers, got {len(asked.answered)}"
    assert asked.refused == 0, f"expected every hold to fit, {asked.refused} were refused"
    return asked


def _hold(account: str, hold_id: str, key: CommandKey) -> tuple[bytes | None, bytes]:
    usage = {
        "type": "org.apimage.usage.image_generation.v1",
        "data": {"quality": "high", "width": 1024, "height": 1024, "images": 1},
    }
    event = unsigned_command(
        "hold", account=account, command_id=hold_id, source="/bench", time=now_text(),
        data={"hold_id": hold_id, "usage": usage},
    )  # fmt: skip
    return encode(signed(event, key))


def send(
    settings: Settings, messages: Sequence[tuple[bytes | None, bytes]], rate: float, asked: Asked
) -> None:
    """Append keys and values to the input log at their instants; every one is acknowledged at the end."""
    options: dict[str, Any] = {"linger.ms": 0}
    sender, topic = producer(settings.kafka, **options), topic_name(settings.kafka, ACCOUNT_EVENTS)
    sender.list_topics(topic, timeout=ANSWER_SECONDS_MAX)  # Connected before the first is due.
    begun = time.time() + LOOK_SECONDS
    for number, (key, value) in enumerate(messages):
        due = begun + number / rate
        while (left := due - time.time()) > 0:
            # librdkafka counts whole milliseconds: to wait in its `poll` for less is to spin.
            time.sleep(min(left, PACE_SECONDS))
            sender.poll(0)
        sender.produce(topic, value, key, headers=_STRUCTURED_MODE, on_delivery=_note(asked, due))
        sender.poll(0)
    assert sender.flush(ANSWER_SECONDS_MAX) == 0, "expected every message to be acknowledged"


def _note(asked: Asked, due: float) -> Any:
    def told(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        position = (message.partition() or 0, message.offset() or 0)
        asked.kept[position] = Kept(due, message.timestamp()[1] / 1000, time.time(), message.key() or b"")

    return told


class _Reader(threading.Thread):
    """Reads answers from the end that the topic has now. Parsed when all is over: parsing would delay sending."""

    def __init__(self, settings: Settings, asked: Asked, count: int) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self._settings, self._asked, self._count = settings, asked, count
        self.start()

    def run(self) -> None:
        reader = from_the_end(self._settings.kafka, COMMAND_RESULTS)
        self.ready.set()
        came: list[tuple[float, bytes]] = []
        while len(came) < self._count:
            message = reader.poll(LOOK_SECONDS)
            if message is not None:
                assert message.error() is None, message.error()
                came.append((time.time(), message.value() or b""))
        reader.close()
        for at, value in came:
            body = orjson.loads(value)
            self._asked.answered[body["partition"], body["offset"]] = at
            self._asked.refused += body["outcome"] != "accepted"
