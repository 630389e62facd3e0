"""What every wire model has in common, and the words that several of them share."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

ACCOUNT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
"""An account id: 1–128 characters, so that it is a safe Kafka key, URL segment and SQL parameter."""

TEXT_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters, as CloudEvents has it for strings."""

GRANT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$"
EVENT_ID_LENGTH_MAX = 256
SOURCE_LENGTH_MAX = 256

CREDITS_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"
"""A plain decimal as `Decimal(18, 6)` holds it: no exponent, no plus, no thousands."""
CREDITS_NOT_NEGATIVE_PATTERN = CREDITS_PATTERN.replace("-?", "")

INSTANT_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
UTC_INSTANT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"


class WireModel(BaseModel):
    """Frozen, strict, nothing unknown: for what our own programs write."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class OpenModel(BaseModel):
    """Frozen, strict, unknown attributes kept: for what others write."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


def _read_credits(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(CREDITS_PATTERN, value):
        raise ValueError(f"expected credits as a plain decimal such as '8' or '0.5', got {value[:48]!r}")
    return Decimal(value)


CreditAmount: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(_read_credits),
    PlainSerializer(lambda amount: format(amount.normalize(), "f"), return_type=str),
    WithJsonSchema({"type": "string", "pattern": CREDITS_PATTERN, "examples": ["8", "0.5"]}),
]
"""Credits on the wire: a plain decimal string with at most six places, such as "8" or "0.5". Never a float."""

NotNegative: TypeAlias = Annotated[
    CreditAmount,
    Field(ge=0),
    WithJsonSchema({"type": "string", "pattern": CREDITS_NOT_NEGATIVE_PATTERN, "examples": ["8", "0.5"]}),
]


def _read_instant(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(INSTANT_PATTERN, value):
        raise ValueError(f"expected an RFC 3339 instant such as 2026-11-23T13:00:00Z, got {value[:64]!r}")
    return datetime.fromisoformat(value.upper())


def _read_utc_instant(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(UTC_INSTANT_PATTERN, value):
        raise ValueError(f"expected an instant such as 2026-11-23T13:00:00.000Z, got {value[:64]!r}")
    return _read_instant(value)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_read_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": INSTANT_PATTERN}),
]
"""RFC 3339 with any offset, as others write it. What is finer than a millisecond is cut off."""

UtcInstant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(_read_utc_instant),
    PlainSerializer(_written, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": UTC_INSTANT_PATTERN}),
]
"""As we write it: RFC 3339 in UTC with milliseconds, such as "2026-11-23T13:00:00.000Z"."""

AccountId: TypeAlias = Annotated[str, Field(pattern=ACCOUNT_ID_PATTERN)]
EventId: TypeAlias = Annotated[str, Field(min_length=1, max_length=EVENT_ID_LENGTH_MAX, pattern=TEXT_PATTERN)]
Source: TypeAlias = Annotated[str, Field(min_length=1, max_length=SOURCE_LENGTH_MAX, pattern=TEXT_PATTERN)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
"""An offset, a partition, a sequence number."""

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


TERM_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
TERM_LAST: Final = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
"""Terms that others choose lie within these: ClickHouse's instants end there."""


def _within_terms(at: datetime) -> datetime:
    if not TERM_FIRST <= at <= TERM_LAST:
        raise ValueError(f"expected an instant of the years {TERM_FIRST.year} to {TERM_LAST.year}, got {at}")
    return at


Term: TypeAlias = Annotated[Instant, AfterValidator(_within_terms)]


class Envelope(OpenModel):
    """CloudEvents 1.0 in structured mode. In Kafka's binary mode the same attributes are `ce_*` headers and the
    record's value is `data`. Further attributes (extensions, `datacontenttype`) are allowed and have no effect."""

    specversion: Literal["1.0"]
    id: EventId
    """With `subject` and `source` the identity of the event: the same for every resend, never used again."""
    source: Source
    subject: AccountId
    """The account, and the record's Kafka key."""
    time: Instant
    """When it happened, by the producer's clock."""


class GrantShare(WireModel):
    """How much of one grant an entry gave or took, never negative."""

    grant_id: str
    """`overage`: what was used beyond all grants."""
    credits: NotNegative


class Shortage(WireModel):
    """What was missing, and when there will be more."""

    required: NotNegative
    available: NotNegative
    resets_at: UtcInstant
    """The period's end, when a plan with monthly credits gives new ones."""
