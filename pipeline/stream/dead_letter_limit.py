"""When the share of dead letters says that the fault is ours: a wrong release, a wrong key, a wrong price file."""

from collections import deque


class DeadLetterLimit:
    """The share of dead letters among the last records. Judged only over a full window: a handful proves nothing."""

    def __init__(self, *, window_records: int, share_max: float) -> None:
        self._window_records = window_records
        self._share_max = share_max
        self._batches: deque[tuple[int, int]] = deque()  # (records, dead letters) of each batch.
        self._records = 0
        self._dead_letters = 0

    def exceeded_by(self, *, records: int, dead_letters: int) -> str | None:
        """Count one more batch; what to tell the operator if it must not be committed."""
        self._batches.append((records, dead_letters))
        self._records += records
        self._dead_letters += dead_letters
        while self._records - self._batches[0][0] >= self._window_records:
            oldest_records, oldest_dead_letters = self._batches.popleft()
            self._records -= oldest_records
            self._dead_letters -= oldest_dead_letters
        if self._records < self._window_records or self._dead_letters <= self._share_max * self._records:
            return None
        return (
            f"expected at most {self._share_max:.0%} dead letters in the last {self._records} records, "
            f"found {self._dead_letters}; the batch is not committed. If the events really are that bad, raise "
            "CREDITSTREAM_WORKER__DEAD_LETTER_SHARE_MAX (1 switches the limit off) and start the worker again"
        )
