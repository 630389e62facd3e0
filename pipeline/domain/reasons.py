"""The closed list of reasons. Every event that is not metered carries one of these codes.

The codes are a contract (dead letters, metered records, HTTP problems); words for people go beside them. Those
that a first answer can have also have a number, which stands in the identity index and is never reused.
"""

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    # Dead letters: malformed, in the order in which they are looked for.
    TOO_LARGE = "too_large"
    MALFORMED_JSON = "malformed_json"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_ENVELOPE = "invalid_envelope"
    KEY_MISMATCH = "key_mismatch"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    INVALID_DATA = "invalid_data"
    # Dead letters: well formed, but never to be charged.
    CONFLICT = "conflict"
    UNKNOWN_ACCOUNT = "unknown_account"
    LATE = "late"  # Set aside: the late lane looks further back, and puts it back.
    TOO_LATE = "too_late"
    TOO_EARLY = "too_early"
    UNPRICED = "unpriced"
    # Denied usage: recorded at 0 credits.
    PLAN_PAUSED = "plan_paused"
    CREDITS_EXHAUSTED = "credits_exhausted"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    ACCOUNT_CLOSED = "account_closed"  # Of commands too.
    # Refused commands.
    ACCOUNT_EXISTS = "account_exists"
    UNKNOWN_PLAN = "unknown_plan"
    PLAN_UNCHANGED = "plan_unchanged"
    GRANT_EXISTS = "grant_exists"
    UNKNOWN_GRANT = "unknown_grant"
    GRANT_EXPIRED = "grant_expired"
    TOO_MANY_GRANTS = "too_many_grants"
    HOLD_EXISTS = "hold_exists"
    UNKNOWN_HOLD = "unknown_hold"
    HOLD_CAPTURED = "hold_captured"
    HOLD_RELEASED = "hold_released"
    HOLD_EXPIRED = "hold_expired"
    EXCEEDS_HOLD = "exceeds_hold"
    USAGE_ANSWERED = "usage_answered"
    TOO_MANY_HOLDS = "too_many_holds"
    OVERAGE_NOT_OFFERED = "overage_not_offered"
    # Refused price books and plan catalogues.
    VERSION_EXISTS = "version_exists"
    TOO_MANY_VERSIONS = "too_many_versions"
    TAKES_FORCE_TOO_SOON = "takes_force_too_soon"
    BEFORE_THE_NEWEST = "before_the_newest"
    PLAN_MISSING = "plan_missing"
    RECORD_NOT_FOUND = "record_not_found"
    RECORD_MISMATCH = "record_mismatch"
    NOT_REVERSIBLE = "not_reversible"
    REVERSAL_TOO_LATE = "reversal_too_late"
    ALREADY_REVERSED = "already_reversed"
    EXCEEDS_CHARGE = "exceeds_charge"
    TOO_MANY_REVERSALS = "too_many_reversals"
    UNKNOWN_PRICE_BOOK = "unknown_price_book"
    UNKNOWN_PACK = "unknown_pack"
    PACK_TOO_SMALL = "pack_too_small"
    CAP_TOO_SMALL = "cap_too_small"
    UNKNOWN_ORDER = "unknown_order"
    ORDER_ANSWERED = "order_answered"
    # The second copy of anything.
    DUPLICATE = "duplicate"


METERED_CODE: Final = 1
ACCEPTED_CODE: Final = 2
"""First answers without a reason: usage metered, command accepted."""

REASON_CODES: Final[dict[Reason, int]] = {
    Reason.PLAN_PAUSED: 16,
    Reason.CREDITS_EXHAUSTED: 17,
    Reason.INSUFFICIENT_CREDITS: 18,
    Reason.ACCOUNT_EXISTS: 32,
    Reason.UNKNOWN_PLAN: 33,
    Reason.GRANT_EXISTS: 34,
    Reason.UNKNOWN_GRANT: 35,
    Reason.GRANT_EXPIRED: 36,
    Reason.TOO_MANY_GRANTS: 37,
    Reason.ACCOUNT_CLOSED: 39,
    Reason.PLAN_UNCHANGED: 40,
    Reason.HOLD_EXISTS: 41,
    Reason.UNKNOWN_HOLD: 42,
    Reason.HOLD_CAPTURED: 43,  # These three are also what the index knows of a hold that has ended.
    Reason.HOLD_RELEASED: 44,
    Reason.HOLD_EXPIRED: 45,
    Reason.EXCEEDS_HOLD: 46,
    Reason.USAGE_ANSWERED: 47,
    Reason.TOO_MANY_HOLDS: 48,
    Reason.OVERAGE_NOT_OFFERED: 52,
    Reason.TOO_LATE: 49,  # Of a captured usage event; else a dead letter.
    Reason.TOO_EARLY: 50,
    Reason.UNPRICED: 51,
    Reason.RECORD_NOT_FOUND: 70,
    Reason.RECORD_MISMATCH: 71,
    Reason.NOT_REVERSIBLE: 72,
    Reason.REVERSAL_TOO_LATE: 73,
    Reason.ALREADY_REVERSED: 74,
    Reason.EXCEEDS_CHARGE: 75,
    Reason.TOO_MANY_REVERSALS: 76,
    Reason.UNKNOWN_PRICE_BOOK: 77,
    Reason.UNKNOWN_PACK: 90,
    Reason.PACK_TOO_SMALL: 91,
    Reason.CAP_TOO_SMALL: 92,
    Reason.UNKNOWN_ORDER: 93,
    Reason.ORDER_ANSWERED: 94,
    Reason.CONFLICT: 80,  # Of usage that was readmitted.
    Reason.VERSION_EXISTS: 96,
    Reason.TOO_MANY_VERSIONS: 97,
    Reason.TAKES_FORCE_TOO_SOON: 98,
    Reason.BEFORE_THE_NEWEST: 99,
    Reason.PLAN_MISSING: 100,
    Reason.UNKNOWN_ACCOUNT: 38,  # Of a command; usage for an unknown account is a dead letter.
}
REASON_OF_CODE: Final = {code: reason for reason, code in REASON_CODES.items()}
