"""What the shell adds to a claim before its first try: an id and the producer's clock.

The id is made once, before the first attempt, so that every resend of the same claim carries the same one.
"""

import os
import uuid
from datetime import UTC, datetime

from pipeline.domain.instants import Instant, as_instant, format_instant


def now() -> Instant:
    """This machine's clock."""
    return as_instant(datetime.now(UTC))  # noqa: TID251  (the shell's one reading)


def now_text() -> str:
    """This machine's clock as the wire has it."""
    return format_instant(now())


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): unique, and in order of time: neighbours in tables too."""
    bits = int(now()) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) | 7 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=bits))
