"""What every wire model has in common, and the words that several of them share."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

ACCOUNT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
"""An account id: 1–128 characters, so that it is a safe Kafka key, URL segment and SQL parameter."""

TEXT_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters, as CloudEvents has it for strings."""

GRANT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$"
EVENT_ID_LENGTH_MAX = 256
SOURCE_LENGTH_MAX = 256


class WireModel(BaseModel):
    """Frozen, strict, nothing unknown: for what our own programs write."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


CreditAmount: TypeAlias = Annotated[
    Decimal,
    Field(max_digits=18, decimal_places=6, strict=False),
    PlainSerializer(lambda amount: format(amount.normalize(), "f"), return_type=str),
]
"""Credits on the wire: a plain decimal string with at most six places, such as "8" or "0.5". Never a float."""

Instant: TypeAlias = Annotated[datetime, Field(strict=False)]
"""RFC 3339 in UTC with milliseconds, such as "2026-11-23T13:00:00.000Z"."""

AccountId: TypeAlias = Annotated[str, Field(pattern=ACCOUNT_ID_PATTERN)]

Service: TypeAlias = Literal[
    "image_generation",
    "background_removal",
    "image_analysis",
    "upscaling",
    "post_processing",
    "transparent_background",
]
Channel: TypeAlias = Literal["web", "api"]
GrantKind: TypeAlias = Literal["monthly", "prepaid", "promotional", "goodwill"]


class Position(WireModel):
    """Where in the input log the cause of a record stands."""

    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]


class GrantShare(WireModel):
    """How much of one grant an entry gave or took, never negative."""

    grant_id: str
    credits: CreditAmount
