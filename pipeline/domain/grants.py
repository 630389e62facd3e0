"""Grants and how they burn down.

The burn order (product.md section 2, our decision): priority, then soonest expiry (none last), then creation,
then id. An account keeps its grants sorted so; burning down is one walk from the front.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, NewType

from pipeline.domain.credits import Credits
from pipeline.domain.instants import Instant

GrantId = NewType("GrantId", str)

KIND_PRIORITIES: Final = {"monthly": 10, "promotional": 20, "goodwill": 30, "prepaid": 40}
"""Default priority by kind: what expires with the month first, what was paid for last."""
PRIORITY_MAX: Final = 100
GRANTS_MAX: Final = 256
"""Of one account, those that wait to begin and an order for one that is not answered yet among them; bounds its state.
Used-up ones make place (`used_up`). Only the monthly grant that begins a period comes whatever there is."""
GRANT_MICROS_MAX: Final = 100_000_000 * 1_000_000
"""A hundred million credits: 256 such grants still fit `Decimal(18, 6)`."""
OVERAGE: Final = GrantId("overage")
"""In the place of a grant, in entries and holds: what was used beyond all grants."""
RESERVED_GRANT_IDS: Final = re.compile(r"(monthly|upgrade|topup):.*|overage")
"""Names of grants that only the rules give."""
NEVER: Final = 2**62
"""Sorts behind every instant."""


class Grant(NamedTuple):
    """Credits given, and their terms. Immutable: what is left of it stands beside it in the account."""

    grant_id: GrantId
    kind: str
    priority: int
    credits: Credits
    effective_at: Instant
    expires_at: Instant | None  # None: it never expires. Half open: unusable from this instant on.
    created_at: Instant
    source: str


class GrantShare(NamedTuple):
    """What one grant gave to a charge, or got, or lost. Never negative."""

    grant_id: GrantId
    credits: Credits


def burn_order(grant: Grant) -> tuple[int, int, int, str]:
    """The sort key of the burn order."""
    expires_at = NEVER if grant.expires_at is None else grant.expires_at
    return grant.priority, expires_at, grant.created_at, grant.grant_id


def burn_down(
    grants: Sequence[Grant], remaining: Sequence[Credits], amount: Credits
) -> tuple[tuple[Credits, ...], tuple[GrantShare, ...]]:
    """Take `amount` from the grants in burn order: what is left of each, and what each gave.

    What they have not got stands last, as `OVERAGE`: the caller has seen that the policy allows it. All grants are
    in effect and none has expired.
    """
    left = list(remaining)
    shares: list[GrantShare] = []
    due = amount
    for index, there in enumerate(left):
        if there:
            given = min(due, there)
            left[index] = Credits(there - given)
            shares.append(GrantShare(grants[index].grant_id, given))
            due = Credits(due - given)
            if not due:
                break
    if due:
        shares.append(GrantShare(OVERAGE, due))
    return tuple(left), tuple(shares)
