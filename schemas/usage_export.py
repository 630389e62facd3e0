"""The usage of one account as a file: what `GET /v1/accounts/{account_id}/usage/export` hands out as JSON."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import (
    AccountId,
    Channel,
    Count,
    CreditAmount,
    EventId,
    NotNegative,
    Service,
    Source,
    WireModel,
)
from schemas.metered_record import UsageOutcome

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
    """The oldest record first. `totals` are of these very records and stand last: a file without them was cut off."""

    schema_name: Annotated[Literal["creditstream.usage_export.v1"], Field(alias="schema")]
    account_id: AccountId
    time_zone: str
    generated_at: ZonedInstant
    filters: ExportFilters
    records: list[ExportedRecord]
    totals: dict[Service, ServiceTotal]
