"""The sink's plan: which records of one partition it inserts next, written down before it inserts them.

On the compacted topic `metering.sink-plans.v1`, key = partition number, in the partition of the same number.
The newest plan of a partition is where its next owner begins.
"""

from typing import Annotated

from pydantic import Field

from schemas.base import WireModel


class PlannedRange(WireModel):
    """Offsets [first, end) of one topic: one block, under one deduplication token."""

    topic: str
    """Its name on the broker."""
    topic_id: str
    """The broker's: a topic that was deleted and created again has another one."""
    first: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    """Equal to `first` where the topic has nothing in this plan."""


class SinkPlan(WireModel):
    partition: Annotated[int, Field(ge=0)]
    mapping: Annotated[int, Field(ge=1)]
    """Version of the way from records to rows, a part of the token."""
    inserted: bool
    """False before the insert. True: all of it is known to be stored, and `end` is only where to go on."""
    ranges: list[PlannedRange]
    fill: str = ""
    """Which filling of the tables it is for: after a rebuild they take blocks of no other. "": never rebuilt."""

    def to_json(self) -> bytes:
        """Without what an older sink does not know, as long as it need not."""
        return self.model_dump_json(exclude_defaults=True).encode()
