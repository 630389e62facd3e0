"""The usage of one account as a file: what `GET /v1/accounts/{account_id}/usage/export` hands out as JSON.

It can be checked without any server, by `creditstream verify` or by anybody's own program:

- each record's `hash` is BLAKE2b-128 (32 hexadecimal digits) over the hash of the record before it (32 zeros before the
  first) and the record's canonical JSON without `hash`: keys sorted, no white space, UTF-8;
- each ledger entry's `entry_hash` is the ledger's own (`schemas/ledger_entry.py`), and chains likewise;
- `sha256` is over the lines, each ended by a newline: the canonical JSON of all members before `records`, of each
  record's `hash`, of each entry's `entry_hash`, then of `totals`, `opening_balance`, `closing_balance`, `price_books`.

Hashes show what was altered by mistake or in passing; they are no signature.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    AccountId,
    Channel,
    Count,
    CreditAmount,
    EventId,
    GrantShare,
    NotNegative,
    Service,
    Source,
    WireModel,
)
from schemas.ledger_entry import EntryKind
from schemas.metered_record import Receipt, UsageOutcome

ZonedInstant = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}[+-][0-9]{2}:[0-9]{2}$"),
]
"""RFC 3339 with the offset that the asked time zone had then: "2026-11-23T14:00:00.000+01:00"."""


class ExportedRecord(WireModel):
    """One usage event; in NDJSON a line, in CSV a row."""

    event_id: EventId
    source: Source
    service: Service
    outcome: UsageOutcome
    reason: str
    occurred_at: ZonedInstant
    accepted_at: ZonedInstant
    channel: Channel
    images: Count
    credits: CreditAmount
    """What was charged; of a correction (reversed, rerated) the difference that it makes."""
    rated_credits: NotNegative
    price_book: str
    balance_after: CreditAmount
    partition: Count
    offset: Count
    entry_seq: Count
    """The ledger entry's number; 0 where none was posted."""
    first_offset: Count
    """Of a duplicate or a correction: the offset of the event that was charged. Else the own offset."""
    receipt: Receipt | None
    """Why it cost what it cost. None of duplicates and reversals."""
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class ExportedEntry(WireModel):
    """One signed change of the account's credits; with the account's id all that its `entry_hash` is made of."""

    entry_seq: Count
    kind: EntryKind
    credits: CreditAmount
    balance_after: CreditAmount
    booked_at: ZonedInstant
    cause_id: str
    grants: list[GrantShare]
    partition: Count
    offset: Count
    previous_hash: str
    entry_hash: str


class ExportedPriceBook(WireModel):
    version: str
    sha256: str | None
    """Of its canonical content; None where who wrote the file did not have it."""


class ExportFilters(WireModel):
    """What was asked for. Accepted in [from, to); null: no bound."""

    since: Annotated[ZonedInstant | None, Field(alias="from")]
    until: Annotated[ZonedInstant | None, Field(alias="to")]
    service: Service | None
    outcome: UsageOutcome | None
    channel: Channel | None


class ServiceTotal(WireModel):
    metered: Count
    denied: Count
    duplicates: Count
    corrections: Count
    """Charges that were taken back or rated again."""
    images: Count
    """Of metered records."""
    credits: CreditAmount
    """Below zero where corrections of earlier charges weigh more than what was charged."""


class UsageExport(WireModel):
    """The oldest record first. What stands behind them is of these very records; a file without it was cut off."""

    schema_name: Annotated[Literal["creditstream.usage_export.v1"], Field(alias="schema")]
    account_id: AccountId
    time_zone: str
    generated_at: ZonedInstant
    filters: ExportFilters
    records: list[ExportedRecord]
    entries: list[ExportedEntry]
    """All of the account's ledger in the asked time, whatever else was filtered: from opening to closing balance."""
    totals: dict[Service, ServiceTotal]
    opening_balance: CreditAmount
    """Posted before the first entry."""
    closing_balance: CreditAmount
    price_books: list[ExportedPriceBook]
    """Those that priced these records."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
