"""How far a partition was found equal: what `creditstream reconciler` says, and begins with when it is started again.

On the compacted topic `metering.reconcile-marks.v1`, key = partition number, in the partition of the same number.
"""

from pydantic import Field

from schemas.base import Count, UtcInstant, WireModel

DIFFERENCES_MAX = 50
"""Of one partition, that are spelled out; all are counted."""


class MarkedDifference(WireModel):
    """One thing that is not as it must be. `where` is the topic or table that was looked at."""

    kind: str
    where: str
    offset: Count
    """Of the input record that it is about."""
    account_id: str
    event_id: str
    expected: str
    found: str


class ReconcileMark(WireModel):
    partition: Count
    compared_up_to: Count
    """Everything before this input offset was compared."""
    equal_up_to: Count
    """Before this input offset nothing differs."""
    reviewed_up_to: Count
    """Where the second, slower round is, which compares again what was compared before."""
    rounds: Count
    """Second rounds that came to their end."""
    compared_at: UtcInstant
    differences_total: Count
    differences: list[MarkedDifference] = Field(max_length=DIFFERENCES_MAX)
