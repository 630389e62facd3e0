"""What a peer remembers of one partition: plain dicts, filled from nothing.

A program for production would load them when it starts. That is not measured, so it is not written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.metering import Folded, PartitionView
from pipeline.state import Cursor, next_boundary_ms


@dataclass(slots=True, kw_only=True)
class PartitionState:
    partition: int
    cursor: Cursor
    published: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    accounts: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    identities: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])

    def view(self) -> PartitionView:
        return view_of(self.partition, self.cursor, self.published, self.accounts, self.identities)

    def apply(self, folded: Folded) -> None:
        self.published.update(folded.published)
        self.accounts.update(folded.accounts)
        self.identities.update(folded.identities)
        self.cursor = folded.cursor


def view_of(
    partition: int,
    cursor: Cursor,
    published: Mapping[bytes, bytes],
    accounts: Mapping[bytes, bytes],
    identities: Mapping[bytes, bytes],
) -> PartitionView:
    """What the core reads. Only ticks ask which accounts are due, so a scan does."""

    def due(clock_ms: int, limit: int) -> list[bytes]:
        boundaries = sorted((next_boundary_ms(row), key) for key, row in accounts.items())
        return [key for boundary, key in boundaries if boundary <= clock_ms][:limit]

    return PartitionView(
        partition=partition,
        cursor=cursor,
        published=published,
        accounts=accounts,
        identities=identities,
        due_accounts=due,
    )
