"""The identities of one partition that are still in the hot window: 16-byte hash to the first answer.

Exact: an identity is found until its hour lies wholly before the horizon, and never forgotten for want of memory.
One dict answers every lookup (a new identity: 0.3 µs; a dict for each of 76 hours: 22 µs); the hours only say what
to forget. They are whole and closed once the clock has
passed them, so that closed hours can leave memory for the disk without a change to who asks.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from pipeline.state import identity_accepted_at_ms
from schemas.topics import HOUR_MS

IDENTITY_MEMORY_BYTES: Final = 240
"""Counted for one identity. Measured over 100,000 to 1,500,000: 166 to 184 bytes, 214 while the dict grows."""
FORGET_IDENTITIES_MAX: Final = 10_000
"""Forgotten at one call at most, so that the turn of an hour does not hold up a batch (10,000 take about 6 ms)."""


class IdentityIndex:
    """What has been answered already. `keep_ms` is the hot window and what a producer's clock may run ahead."""

    def __init__(self, *, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._answers: dict[bytes, bytes] = {}
        self._hours: deque[tuple[int, list[bytes]]] = deque()  # (hour, keys), hours ascending.

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def memory_bytes(self) -> int:
        """What the index holds, counted, not measured."""
        return len(self._answers) * IDENTITY_MEMORY_BYTES

    @property
    def answers(self) -> Mapping[bytes, bytes]:
        """For lookups; changed only by `add` and `forget`."""
        return self._answers

    def add(self, identities: Mapping[bytes, bytes], *, clock_ms: int) -> None:
        """Take in a committed batch. It counts with the hour of its clock: rather too long than too short."""
        if not identities:
            return
        self._hour(clock_ms // HOUR_MS).extend(identities)
        self._answers.update(identities)

    def forget(self, clock_ms: int) -> None:
        """Drop identities of hours that lie wholly before the horizon, a bounded number at a time."""
        horizon_ms = clock_ms - self._keep_ms
        while self._hours and (self._hours[0][0] + 1) * HOUR_MS <= horizon_ms:
            keys = self._hours[0][1]
            self._drop(keys[-FORGET_IDENTITIES_MAX:], horizon_ms)
            del keys[-FORGET_IDENTITIES_MAX:]
            if keys:
                return
            self._hours.popleft()

    def _hour(self, hour: int) -> list[bytes]:
        if not self._hours or self._hours[-1][0] < hour:
            self._hours.append((hour, []))
        return self._hours[-1][1]

    def _drop(self, keys: Iterable[bytes], horizon_ms: int) -> None:
        for key in keys:
            answer = self._answers.get(key)
            # A key that was used again after its window has a younger answer, and stays under its newer hour.
            if answer is not None and identity_accepted_at_ms(answer) < horizon_ms:
                del self._answers[key]
