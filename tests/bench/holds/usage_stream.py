"""`python -m tests.bench.holds.usage_stream RATE SECONDS ACCOUNTS`: usage at an even pace, beside what is measured.

It stands for services that run elsewhere, so it sends few large requests: sent after librdkafka's five milliseconds, at
1,500 events/s, its requests took a fifth of a processor, and the broker's share for them came on top.
"""

import sys
import time
from typing import Any, Final

import orjson

from pipeline.client.events import encode, usage_event
from pipeline.client.origin import new_id, now_text
from pipeline.kafka import producer, topic_name
from pipeline.settings import Settings
from schemas.topics import ACCOUNT_EVENTS

PACE_SECONDS: Final = 0.01
"""Events are made in small groups, a hundred a second."""
LINGER_MS: Final = 50
FLUSH_SECONDS_MAX: Final = 30
DATA: Final = {"quality": "medium", "width": 1024, "height": 1024}


def stream(settings: Settings, *, rate: float, seconds: float, accounts: int) -> None:
    """Publish usage of accounts `a0`, `a1`, …"""
    options: dict[str, Any] = {"linger.ms": LINGER_MS}
    sender = producer(settings.kafka, **options)
    topic = topic_name(settings.kafka, ACCOUNT_EVENTS)
    name, begun, sent = new_id(), time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        at = now_text()
        while sent < rate * passed:
            event = usage_event(
                "image_generation", account=f"a{sent % accounts}", event_id=f"{name}-{sent}", source="/bench",
                time=at, data=DATA,
            )  # fmt: skip
            key, value = encode(event)
            sender.produce(topic, value, key)
            sent += 1
        sender.poll(PACE_SECONDS)
    assert sender.flush(FLUSH_SECONDS_MAX) == 0
    sys.stdout.write(orjson.dumps({"events": sent}).decode())


if __name__ == "__main__":
    stream(Settings(), rate=float(sys.argv[1]), seconds=float(sys.argv[2]), accounts=int(sys.argv[3]))
