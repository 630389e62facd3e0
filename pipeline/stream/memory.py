"""What a worker remembers of one partition. Changed by committed batches and by nothing else."""

from dataclasses import dataclass

from pipeline.boundaries import Boundaries
from pipeline.metering import Folded, PartitionView
from pipeline.state import CURSOR_KEY, Cursor, encode_cursor, next_boundary_ms
from pipeline.stream.identities import IdentityIndex
from pipeline.stream.local_rows import LocalRows
from pipeline.stream.rows import Rows


@dataclass(slots=True, kw_only=True)
class PartitionMemory:
    """The table's rows, the cursor and the indexes over them, as the changelog has them."""

    partition: int
    cursor: Cursor
    published: dict[bytes, bytes]
    accounts: Rows
    identities: IdentityIndex
    boundaries: Boundaries
    local: LocalRows

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

    def apply(self, folded: Folded, position: int) -> None:
        """Follow a batch whose transaction has been committed, up to this position of the changelog."""
        self.published.update(folded.published)
        self.accounts.update(folded.accounts)
        self.boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        self.identities.add(folded.identities, clock_ms=folded.cursor.clock_ms)
        self.identities.forget(folded.cursor.clock_ms)
        self.cursor = folded.cursor
        self.local.note(
            {**folded.accounts, **folded.published, CURSOR_KEY: encode_cursor(folded.cursor)}, position
        )
