"""Account commands: signed CloudEvents `org.apimage.account.<command>.v1` in the same log as usage.

`signature` is HMAC-SHA256 (hex) with the key that `keyid` names, over id, source, type, subject, time and data:
`pipeline.domain.signing` has the exact bytes. Source and time are covered because the identity of a command is
(account, source, id) and its window is judged by time: uncovered, a recorded command could be played again.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from schemas.base import (
    EVENT_ID_LENGTH_MAX,
    GRANT_ID_PATTERN,
    SOURCE_LENGTH_MAX,
    AccountId,
    CreditAmount,
    GrantKind,
    Instant,
    WireModel,
)

COMMAND_TYPE_PREFIX = "org.apimage.account."
TICK_TYPE = "org.apimage.tick.v1"

TERM_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
TERM_LAST: Final = datetime(2299, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
"""A grant's terms lie within these: ClickHouse's instants end there. A grant that never ends has no `expires_at`."""

GrantId: TypeAlias = Annotated[str, Field(pattern=GRANT_ID_PATTERN)]


class OpenAccount(WireModel):
    """Open the account on a plan; its first monthly grant follows at once. The anchor is the acceptance."""

    plan: Annotated[str, Field(min_length=1, max_length=64)]


class IssueGrant(WireModel):
    """Give credits. `priority` 0 burns first; left out, it is the kind's own (monthly 10 … prepaid 40)."""

    grant_id: GrantId
    kind: GrantKind
    credits: CreditAmount
    priority: Annotated[int, Field(ge=0, le=100)] | None = None
    effective_at: Instant | None = None
    expires_at: Instant | None = None
    source: Annotated[str, Field(max_length=256)] = ""


class VoidGrant(WireModel):
    """Take back what is left of a grant. What was used stays used."""

    grant_id: GrantId
    reason: Annotated[str, Field(max_length=256)] = ""


class AccountCommand(WireModel):
    """The signed envelope."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=EVENT_ID_LENGTH_MAX)]
    source: Annotated[str, Field(min_length=1, max_length=SOURCE_LENGTH_MAX)]
    type: Annotated[str, Field(pattern=r"^org\.apimage\.account\.(open|grant|void_grant)\.v1$")]
    subject: AccountId
    time: Instant
    keyid: Annotated[str, Field(min_length=1, max_length=64)]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    data: OpenAccount | IssueGrant | VoidGrant
