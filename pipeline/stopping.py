"""How a long-running program is told to stop: SIGTERM or Ctrl-C set an event, which its loop looks at."""

import signal
import threading
from types import FrameType


def stop_asked() -> threading.Event:
    """Set once the process is asked to stop. Takes both signals over; call it in the main thread."""
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    return stop
