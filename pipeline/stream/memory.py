"""What a worker remembers of one partition. Changed by committed batches and by nothing else."""

from dataclasses import dataclass

from pipeline.boundaries import Boundaries
from pipeline.metering import Folded, PartitionView
from pipeline.state import Cursor, next_boundary_ms
from pipeline.stream.identities import IdentityIndex


@dataclass(slots=True, kw_only=True)
class PartitionMemory:
    """The table's rows, the cursor and the indexes over them, as the changelog has them."""

    partition: int
    cursor: Cursor
    published: dict[bytes, bytes]
    accounts: dict[bytes, bytes]
    identities: IdentityIndex
    boundaries: Boundaries

    def view(self) -> PartitionView:
        """For the core, which reads and never writes."""
        return PartitionView(
            partition=self.partition,
            cursor=self.cursor,
            published=self.published,
            accounts=self.accounts,
            identities=self.identities,
            due_accounts=self.boundaries.due,
        )

    def apply(self, folded: Folded) -> None:
        """Follow a batch whose transaction has been committed."""
        self.published.update(folded.published)
        self.accounts.update(folded.accounts)
        self.boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        self.identities.add(folded.identities, clock_ms=folded.cursor.clock_ms)
        self.identities.forget(folded.cursor.clock_ms)
        self.cursor = folded.cursor
