"""Who this worker is in its group: after a kill the same member as before, so that nobody waits for a session to end.

A seat is a file in the state directory, locked for as long as the process lives: workers that share the directory have
one each, and who comes after a kill finds it free. Its words, the host and the place make the member's id, so a copy of
the directory is somebody else. Without a seat a worker is a member like any other.
"""

import fcntl
import logging
import socket
from hashlib import blake2b
from pathlib import Path
from typing import IO, Final, NamedTuple
from uuid import uuid4

SEATS_MAX: Final = 64
"""Workers that share a state directory; further ones are members without a seat."""

_LOG: Final = logging.getLogger(__name__)


class Seat(NamedTuple):
    """Held until the process ends."""

    instance_id: str | None
    """`group.instance.id`; None without a seat."""
    file: IO[str] | None


NO_SEAT: Final = Seat(None, None)


def take_seat(directory: Path) -> Seat:
    """The first free one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(SEATS_MAX):
            file = (directory / f"{number}.seat").open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
            else:
                return Seat(_instance_id(file, directory), file)
    except OSError as error:
        _LOG.warning(
            "no seat in the group: after a kill the next start waits for the session to end (%s)", error
        )
    return NO_SEAT


def _instance_id(file: IO[str], directory: Path) -> str:
    file.seek(0)
    words = file.read()
    if not words:
        words = uuid4().hex
        file.write(words)
        file.flush()
    owner = f"{words} {socket.gethostname()} {directory.resolve()}"
    return blake2b(owner.encode(), digest_size=16).hexdigest()
