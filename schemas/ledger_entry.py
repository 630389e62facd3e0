"""Ledger entries: every signed change of an account's credits, numbered and chained.

`entry_hash` is BLAKE2b-128 (hex) over the lines below, joined by "\\n" and in UTF-8; an account's first entry has
`previous_hash` of 32 zeros. Everything stands in the record, so the chain can be checked from Kafka or ClickHouse:
previous_hash, account_id, entry_seq, kind, credits and balance_after in micro-credits, booked_at in epoch
milliseconds, partition, offset, cause_id, and `grant_id:signed micro-credits` joined by ",".
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from schemas.base import AccountId, Count, CreditAmount, GrantShare, UtcInstant, WireModel

EntryKind: TypeAlias = Literal["grant", "usage", "overage", "expiration", "void", "reversal"]
EntryHash: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class LedgerEntry(WireModel):
    """One change of an account's credits."""

    account_id: AccountId
    entry_seq: Annotated[int, Field(ge=1)]
    """1, 2, 3, … without a gap in each account."""
    kind: EntryKind
    """`overage` adds the credits that the usage entry after it takes beyond all grants: they are billed in money."""
    credits: CreditAmount
    """Signed: above zero adds to the balance, below zero takes from it."""
    balance_after: CreditAmount
    booked_at: UtcInstant
    """When the rule took effect: an expiration is booked at the grant's expiry, all else when accepted."""
    accepted_at: UtcInstant
    """The partition's clock when the entry was made."""
    cause_source: str
    cause_id: str
    """The usage event or command; for an expiration the grant's id, with an empty source."""
    grants: list[GrantShare]
    """Unsigned shares; the entry's sign is theirs."""
    partition: Count
    offset: Count
    partition_seq: Count
    previous_hash: EntryHash
    entry_hash: EntryHash
