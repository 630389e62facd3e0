"""One input record in the shape that the core reads, for clients whose own messages have another."""

from collections.abc import Sequence
from typing import NamedTuple, cast

from pipeline.kafka import Message

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def record_of(message: Message) -> Record:
    """From confluent-kafka, whose headers are a list of pairs, or None."""
    headers = cast("Headers", message.headers() or ())
    return Record(message.offset() or 0, message.timestamp()[1], message.key(), message.value(), headers)
