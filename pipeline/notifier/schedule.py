"""Which delivery is tried next: due ones, receivers in turn, each and each channel at most so many at a time.

So a receiver that is slow or away holds up itself, and an outage of mail holds up no webhook. No clock, no I/O.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping
from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class Receiver(NamedTuple):
    """Who takes what is sent: the mail server, or the host of a webhook."""

    channel: str
    name: str


class Limits(NamedTuple):
    """At one time: of all of a channel, and of one receiver in it."""

    channel_max: int
    receiver_max: int


class Schedule(Generic[T]):
    """Things that wait for their instant and then for room."""

    def __init__(self, limits: Mapping[str, Limits]) -> None:
        self._limits = limits
        self._later: list[tuple[float, int, Receiver, T]] = []
        self._number = count()
        self._ready: OrderedDict[Receiver, deque[T]] = OrderedDict()
        self._running: Counter[Receiver] = Counter()
        self._of_channel: Counter[str] = Counter()

    def add(self, thing: T, receiver: Receiver, at: float) -> None:
        """To be tried from the instant `at` on, in seconds of any one clock."""
        heappush(self._later, (at, next(self._number), receiver, thing))

    def take(self, now: float) -> list[tuple[T, Receiver]]:
        """What is to be tried now; each must be told `done`."""
        while self._later and self._later[0][0] <= now:
            _, _, receiver, thing = heappop(self._later)
            self._ready.setdefault(receiver, deque()).append(thing)
        taken: list[tuple[T, Receiver]] = []
        while (free := self._next_free()) is not None:
            waiting = self._ready[free]
            taken.append((waiting.popleft(), free))
            self._running[free] += 1
            self._of_channel[free.channel] += 1
            self._ready.move_to_end(free)
            if not waiting:
                del self._ready[free]
        return taken

    def done(self, receiver: Receiver) -> None:
        """A try has come to an end, whatever its end."""
        self._of_channel[receiver.channel] -= 1
        self._running[receiver] -= 1
        if not self._running[receiver]:
            del self._running[receiver]

    def _next_free(self) -> Receiver | None:
        for receiver in self._ready:
            limits = self._limits[receiver.channel]
            if (
                self._of_channel[receiver.channel] < limits.channel_max
                and self._running[receiver] < limits.receiver_max
            ):
                return receiver
        return None
