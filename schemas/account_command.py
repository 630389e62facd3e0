"""Account commands: signed CloudEvents `org.apimage.account.<command>.v1` in the same log as usage.

`signature` is HMAC-SHA256 (hex) with the key that `keyid` names, over id, source, type, subject, time and data:
`pipeline.domain.signing` has the exact bytes. Source and time are covered because the identity of a command is
(account, source, id) and its window is judged by time: uncovered, a recorded command could be played again.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict

from schemas.base import (
    CREDITS_NOT_NEGATIVE_PATTERN,
    GRANT_ID_PATTERN,
    TEXT_PATTERN,
    CreditAmount,
    Envelope,
    GrantKind,
    OpenModel,
    Term,
    WireModel,
)
from schemas.held_usage import CapturedUsage, PlacedUsage

COMMAND_TYPE_PREFIX = "org.apimage.account."
TICK_TYPE = "org.apimage.tick.v1"

DEFAULT_EXPIRY_LAST: Final = datetime(2289, 12, 31, tzinfo=UTC)
"""A prepaid grant that begins later must say when it ends: ten years, the longest default, would pass `TERM_LAST`."""

PACK_PATTERN: Final = r"^[a-z0-9-]{1,64}$"
GRANT_CREDITS_MAX: Final = 100_000_000
RESERVED_GRANT_IDS: Final = r"(monthly|upgrade|topup):.*|overage"
"""Ids that only the rules give."""


def _whole(value: object) -> object:
    return Decimal(value) if type(value) is int else value


def _not_reserved(grant_id: str) -> str:
    if re.fullmatch(RESERVED_GRANT_IDS, grant_id):
        raise ValueError(f"expected a grant id that is not one of the rules' own ({RESERVED_GRANT_IDS})")
    return grant_id


GrantId: TypeAlias = Annotated[str, Field(pattern=GRANT_ID_PATTERN)]
NewGrantId: TypeAlias = Annotated[
    str,
    Field(pattern=GRANT_ID_PATTERN),
    AfterValidator(_not_reserved),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": GRANT_ID_PATTERN,
            "not": {"pattern": f"^({RESERVED_GRANT_IDS})$"},
        }
    ),
]
GrantCredits: TypeAlias = Annotated[
    CreditAmount,
    BeforeValidator(_whole),
    Field(gt=0, le=GRANT_CREDITS_MAX),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": CREDITS_NOT_NEGATIVE_PATTERN},
                {"type": "integer", "minimum": 1, "maximum": GRANT_CREDITS_MAX},
            ],
            "examples": ["100", "0.5"],
        }
    ),
]
Note: TypeAlias = Annotated[str, Field(max_length=256, pattern=TEXT_PATTERN)]


class OpenAccount(WireModel):
    """Open the account on a plan; its first monthly grant follows at once. The anchor is the acceptance."""

    plan: Annotated[str, Field(min_length=1, max_length=64, pattern=TEXT_PATTERN)]


class IssueGrant(WireModel):
    """Give credits. `priority` 0 burns first; left out, it is the kind's own (monthly 10 … prepaid 40)."""

    grant_id: NewGrantId
    kind: GrantKind
    credits: GrantCredits
    """Above zero, at most a hundred million."""
    priority: Annotated[int, Field(ge=0, le=100)] | None = None
    effective_at: Term | None = None
    """Left out or null: at once."""
    expires_at: Term | None = None
    """null: never. Left out, a prepaid grant ends 12 months after it begins (a setting), any other never."""
    """Left out or null: never. Unusable from this instant on."""
    source: Note = ""
    """Where the credits come from: an order, a ticket."""

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        says_nothing = "expires_at" not in self.model_fields_set and self.kind == "prepaid"
        if says_nothing and self.effective_at and self.effective_at > DEFAULT_EXPIRY_LAST:
            raise ValueError(f"expected an expires_at beside an effective_at after {DEFAULT_EXPIRY_LAST}")
        if self.effective_at and self.expires_at and self.expires_at <= self.effective_at:
            raise ValueError("expected expires_at after effective_at")
        return self


class VoidGrant(WireModel):
    """Take back what is left of a grant. What was used stays used."""

    grant_id: GrantId
    reason: Note = ""


class ChangePlan(WireModel):
    """A larger plan at once, with a second monthly grant of the difference; any other at the period's end.

    To cancel is to change to the free plan. The newest wish counts.
    """

    plan: Annotated[str, Field(min_length=1, max_length=64, pattern=TEXT_PATTERN)]


class CloseAccount(WireModel):
    """Close the account for good: what is left is voided, the running period gets its statement."""

    reason: Note = ""


PackId: TypeAlias = Annotated[str, Field(pattern=PACK_PATTERN)]


class AutoTopup(WireModel):
    """Below `threshold` a pack of the account's plan is bought, once for each crossing."""

    threshold: GrantCredits
    """Credits that are left, overage not counted. At most the pack's, so that one purchase ends the crossing."""
    pack: PackId
    credits_max_per_period: GrantCredits
    """At least one pack."""


class Configure(WireModel):
    """The owner's billing settings; what is not said stays as it is."""

    overage_ceiling: GrantCredits | None = None
    """Turns overage protection off, up to this many credits in one period; null turns it on again."""
    alert_thresholds: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(max_length=8)] | None = None
    """Percent of the period's credits, rising; none of them: no such alerts. Null is as if it were not said."""
    auto_topup: AutoTopup | None = None
    """Buys a pack when too little is left; null turns it off."""

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        chosen = self.alert_thresholds
        if chosen is not None and chosen != sorted(set(chosen)):
            raise ValueError(f"expected rising thresholds, got {chosen}")
        return self


HoldId: TypeAlias = Annotated[str, Field(pattern=GRANT_ID_PATTERN)]
HOLD_SECONDS_MAX: Final = 86_400


_EITHER_CREDITS_OR_USAGE: Final[JsonDict] = {
    "oneOf": [
        {"required": ["credits"], "properties": {"credits": {"type": ["string", "integer"]}}},
        {"required": ["usage"], "properties": {"usage": {"type": "object"}}},
    ],
    "not": {
        "required": ["partial", "credits"],
        "properties": {"partial": {"const": True}, "credits": {"type": ["string", "integer"]}},
    },
}


class PlaceHold(WireModel):
    """Set credits aside: an amount, or what usage would cost by the price book in force. Exactly one of the two."""

    model_config = ConfigDict(json_schema_extra=_EITHER_CREDITS_OR_USAGE)

    hold_id: HoldId
    credits: GrantCredits | None = None
    usage: PlacedUsage | None = None
    seconds: Annotated[int, Field(ge=1, le=HOLD_SECONDS_MAX)] = 900
    """How long it lives; then everything goes back."""
    partial: bool = False
    """Of a batch that does not fit, hold as many images as do. Only beside `usage`."""

    @model_validator(mode="after")
    def _says_how_much_in_one_way(self) -> Self:
        if (self.credits is None) == (self.usage is None) or (self.partial and self.usage is None):
            raise ValueError("expected either credits or usage, and partial only beside usage")
        return self


class CaptureHold(WireModel):
    """Charge what was really done, at the hold's price and at most what it holds; the rest goes back."""

    hold_id: HoldId
    usage: CapturedUsage


class ReleaseHold(WireModel):
    """Give everything back to where it came from."""

    hold_id: HoldId
    reason: Note = ""


OFFSET_MAX: Final = 2**63 - 1
Offset: TypeAlias = Annotated[int, Field(ge=0, le=OFFSET_MAX)]


class Letter(WireModel):
    """Where the event stood when it was set aside, and when it was accepted there."""

    partition: Offset
    offset: Offset
    accepted_at: Term
    """By this its lateness is judged, not by when it is put back."""


class KnownUsage(WireModel):
    """The first answer to the same source and id, found in the metered records."""

    offset: Offset
    same_content: bool
    """Of type and data: a resend, or else a clash of ids."""


class ReadmitUsage(WireModel):
    """Put back a usage event that was set aside as late, or a dead letter whose cause is mended.

    Who sends this has looked into the metered records, because the index of identities reaches back only as far as
    the hot window. What was found stands here, so that the log alone says what became of the event.
    """

    usage: CapturedUsage
    letter: Letter
    known: KnownUsage | None = None
    """null: no record has its source and id."""
    reason: Note = ""


class RecordPlace(WireModel):
    """The metered record of a charge, and where in the log its usage stands. Partitions have the same numbers."""

    partition: Offset
    offset: Offset
    """On the topic of metered records."""
    event_offset: Offset
    """In the log: the record's own `offset`."""


class ReverseUsage(WireModel):
    """Take a charge back, in whole or in part; the credits return to the grants that paid, the last used first."""

    record: RecordPlace
    credits: GrantCredits | None = None
    """Left out or null: all that is left of it."""
    reason: Note = ""


class RerateUsage(WireModel):
    """Take a charge back and charge the same usage by another price book of the schedule. Both or neither."""

    record: RecordPlace
    price_book: Annotated[str, Field(min_length=1, max_length=64, pattern=TEXT_PATTERN)]
    reason: Note = ""


class AnswerTopup(WireModel):
    """What the payment provider said of a top-up order of the account."""

    order: Annotated[int, Field(ge=1, le=OFFSET_MAX)]
    result: Literal["succeeded", "declined"]
    reference: Note = ""
    """The provider's own name for the payment."""
    reason: Note = ""


class SignedEnvelope(Envelope):
    """A CloudEvent with the signature of a command key. In binary mode both are `ce_*` headers too."""

    keyid: Annotated[str, Field(min_length=1, max_length=64)]
    """Which key signed."""
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class OpenAccountCommand(SignedEnvelope):
    """Open an account."""

    type: Literal["org.apimage.account.open.v1"]
    data: OpenAccount


class IssueGrantCommand(SignedEnvelope):
    """Give credits to an account."""

    type: Literal["org.apimage.account.grant.v1"]
    data: IssueGrant


class VoidGrantCommand(SignedEnvelope):
    """Take back what is left of a grant."""

    type: Literal["org.apimage.account.void_grant.v1"]
    data: VoidGrant


class ChangePlanCommand(SignedEnvelope):
    """Change the plan of an account."""

    type: Literal["org.apimage.account.change_plan.v1"]
    data: ChangePlan


class CloseAccountCommand(SignedEnvelope):
    """Close an account."""

    type: Literal["org.apimage.account.close.v1"]
    data: CloseAccount


class ConfigureCommand(SignedEnvelope):
    """Change an account's billing settings."""

    type: Literal["org.apimage.account.configure.v1"]
    data: Configure


class PlaceHoldCommand(SignedEnvelope):
    """Set credits aside before the work."""

    type: Literal["org.apimage.account.hold.v1"]
    data: PlaceHold


class CaptureHoldCommand(SignedEnvelope):
    """Charge the work that was done."""

    type: Literal["org.apimage.account.capture.v1"]
    data: CaptureHold


class ReleaseHoldCommand(SignedEnvelope):
    """Give a hold back."""

    type: Literal["org.apimage.account.release.v1"]
    data: ReleaseHold


class ReadmitUsageCommand(SignedEnvelope):
    """Put a usage event back."""

    type: Literal["org.apimage.account.readmit.v1"]
    data: ReadmitUsage


class ReverseUsageCommand(SignedEnvelope):
    """Take a charge back."""

    type: Literal["org.apimage.account.reverse.v1"]
    data: ReverseUsage


class RerateUsageCommand(SignedEnvelope):
    """Charge past usage by another price book."""

    type: Literal["org.apimage.account.rerate.v1"]
    data: RerateUsage


class AnswerTopupCommand(SignedEnvelope):
    """Answer a top-up order."""

    type: Literal["org.apimage.account.topup_result.v1"]
    data: AnswerTopup


AccountCommand: TypeAlias = Annotated[
    OpenAccountCommand
    | IssueGrantCommand
    | VoidGrantCommand
    | ChangePlanCommand
    | CloseAccountCommand
    | ConfigureCommand
    | PlaceHoldCommand
    | CaptureHoldCommand
    | ReleaseHoldCommand
    | ReadmitUsageCommand
    | ReverseUsageCommand
    | RerateUsageCommand
    | AnswerTopupCommand,
    Field(discriminator="type"),
]
ACCOUNT_COMMAND: TypeAdapter[AccountCommand] = TypeAdapter(AccountCommand)
"""Reads any command, by its type."""


class Tick(OpenModel):
    """Time passes for idle accounts too. Anyone may say so: the broker's clock says how much. Nothing but its type
    is read."""

    type: Literal["org.apimage.tick.v1"]
