"""How the process ends. Everything durable is in transactions, so ending at once is always safe, and going on is not.

A supervisor starts the worker again after UNEXPECTED; the other codes need a person first.
"""

import logging
import os
import sys
from typing import Final, NoReturn

STOPPED: Final = 0
FAILED: Final = 1
REFUSED: Final = 4
"""The state or the topics are not what the worker can go on from: see the message for the remedy."""
UNAVAILABLE: Final = 5
DEAD_LETTERS: Final = 6
UNEXPECTED: Final = 70

_logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """Going on would lose or double credits. The message says what was expected, what came, where, and the remedy."""


def refused(partition: int, what: str, remedy: str) -> RefusedError:
    """The error about one partition."""
    return RefusedError(f"partition {partition}: {what}. Remedy: {remedy}")


def end_process(code: int, reason: str, error: BaseException | None = None) -> NoReturn:
    """Say why, then end without any clean-up: a failed commit may have succeeded, and only a reload knows."""
    level = logging.CRITICAL if code else logging.INFO
    _logger.log(level, "worker ends with code %d: %s", code, reason, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def end_by(error: BaseException, where: str) -> NoReturn:
    """End with the code that the error deserves."""
    if isinstance(error, RefusedError):
        end_process(REFUSED, str(error))
    end_process(UNEXPECTED, f"{where}: {error!r}", error)
