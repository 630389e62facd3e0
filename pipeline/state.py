"""The changelog's bytes: account rows, the cursor, the identity index. A contract with our own past.

A row or cursor of an older version must always be readable: `v` says which it is. The account row and the cursor
are JSON so that an operator can read them; identities are packed, there are millions of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

import orjson

from pipeline.domain.account import (
    DEFAULT_POLICY,
    NO_TOPUP,
    THRESHOLDS_DEFAULT,
    Account,
    BilledOverage,
    Hold,
    PeriodTotals,
    Policy,
    Reversed,
    Subscription,
    TopupPolicy,
    TopupState,
    UsedUp,
)
from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.grants import Grant, GrantShare
from pipeline.domain.holds import held_credits
from pipeline.domain.instants import Instant
from pipeline.domain.usage import AccountId, Fingerprint

CURSOR_KEY: Final = b"__cursor__"
"""No account id starts with an underscore."""
PRICE_BOOK_KEYS: Final = b"__price_book__/"
PLAN_CATALOG_KEYS: Final = b"__plan_catalog__/"
"""Before the version: the rows of published content, which never change."""
RESERVED_KEYS: Final = b"__"
"""What is no account."""


def price_book_key(version: str) -> bytes:
    return PRICE_BOOK_KEYS + version.encode()


def plan_catalog_key(version: str) -> bytes:
    return PLAN_CATALOG_KEYS + version.encode()


ROW_VERSION: Final = 1
CURSOR_VERSION: Final = 1
DIGEST_MODULUS: Final = 2**128

_ROW_START: Final = b'{"v":1,"boundary":'


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRef:
    """A published price book or plan catalogue as the partition knows it; the content, a row of its own, must have
    this hash."""

    version: str
    sha256: str
    effective_from: int
    offset: int
    """Of the command that published it; `BUNDLED` for what the release brought that read the partition first."""


BUNDLED: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a partition stands: the last record of every transaction, and the only authority on position."""

    next_offset: int
    partition_seq: int
    """Records of the input read so far."""
    clock_ms: int
    """The greatest append time read; it never goes back."""
    digest: int
    """Sum of `row_digest` over the newest row of every account and all published content, modulo 2^128."""
    topic_id: str
    """Of the input topic: a recreated topic starts at offset 0 again, and must not be taken for the old one."""
    price_books: tuple[VersionRef, ...]
    plan_catalogs: tuple[VersionRef, ...]


def encode_cursor(cursor: Cursor) -> bytes:
    """The cursor as JSON."""
    return orjson.dumps(
        {
            "v": CURSOR_VERSION,
            "next_offset": cursor.next_offset,
            "partition_seq": cursor.partition_seq,
            "clock_ms": cursor.clock_ms,
            "digest": f"{cursor.digest:032x}",
            "topic_id": cursor.topic_id,
            "price_books": [_encode_ref(each) for each in cursor.price_books],
            "plan_catalogs": [_encode_ref(each) for each in cursor.plan_catalogs],
        }
    )


def decode_cursor(value: bytes) -> Cursor:
    """The cursor of a changelog record. Raises ValueError when its version is not one of ours."""
    fields = orjson.loads(value)
    _expect_version(fields.get("v"), CURSOR_VERSION, "cursor")
    return Cursor(
        next_offset=fields["next_offset"],
        partition_seq=fields["partition_seq"],
        clock_ms=fields["clock_ms"],
        digest=int(fields["digest"], 16),
        topic_id=fields["topic_id"],
        price_books=tuple(map(_decode_ref, fields["price_books"])),
        plan_catalogs=tuple(map(_decode_ref, fields["plan_catalogs"])),
    )


def _encode_ref(ref: VersionRef) -> dict[str, Any]:
    return {
        "version": ref.version,
        "sha256": ref.sha256,
        "effective_from": ref.effective_from,
        "offset": ref.offset,
    }


def _decode_ref(fields: dict[str, Any]) -> VersionRef:
    """Before versions could be published, every one came with a release."""
    return VersionRef(
        version=fields["version"],
        sha256=fields["sha256"],
        effective_from=fields["effective_from"],
        offset=fields.get("offset", BUNDLED),
    )


def _expect_version(came: object, known: int, what: str) -> None:
    if came != known:
        raise ValueError(
            f"expected {what} version {known} in the changelog, got {came!r}: written by a newer release?"
        )


def encode_account(account: Account) -> bytes:
    """The account's row. `boundary` comes first, so that loading need not decode the rest."""
    subscription = account.subscription
    rest = orjson.dumps(
        {
            "plan": (subscription.plan_id, subscription.next_plan_id),
            "period": (
                subscription.anchor,
                subscription.months_to_end,
                subscription.period_start,
                subscription.period_end,
            ),
            "closed": account.closed,
            "totals": tuple(account.totals),
            "policy": _encode_policy(account.policy),
            "alerted": account.alerted,
            "topup": None if account.topup == NO_TOPUP else tuple(account.topup),
            "reversals": [tuple(each) for each in account.reversals],
            "billed": [tuple(each) for each in account.billed],
            "seq": account.entry_seq,
            "hash": account.entry_hash,
            "posted": account.posted,
            "grants": [
                (*_terms(grant), left) for grant, left in zip(account.grants, account.remaining, strict=True)
            ],
            "used_up": [tuple(each) for each in account.used_up],
            "pending": [_terms(grant) for grant in account.pending],
            "holds": [
                (
                    hold.hold_id,
                    hold.credits,
                    [(share.grant_id, share.credits) for share in hold.shares],
                    hold.price_book,
                    hold.expires_at,
                )
                for hold in account.holds
            ],
        }
    )
    return b"%b%d,%b" % (_ROW_START, account.next_boundary, rest[1:])


def _terms(grant: Grant) -> tuple[Any, ...]:
    return (
        grant.grant_id,
        grant.kind,
        grant.priority,
        grant.credits,
        grant.effective_at,
        grant.expires_at,
        grant.created_at,
        grant.source,
    )


def next_boundary_ms(row: bytes) -> int:
    """When time alone changes this account next, epoch ms; far away (`grants.NEVER`) if nothing is due."""
    if not row.startswith(_ROW_START):
        return int(orjson.loads(row)["boundary"])
    return int(row[len(_ROW_START) : row.index(b",", len(_ROW_START))])


def decode_account(account_id: AccountId, row: bytes) -> Account:
    """The account of a row. Raises ValueError when its version is not one of ours."""
    fields = orjson.loads(row)
    _expect_version(fields.get("v"), ROW_VERSION, f"row of {account_id!r} in")
    grants: list[Grant] = []
    remaining: list[Credits] = []
    for *terms, left in fields["grants"]:
        grants.append(Grant(*terms))
        remaining.append(left)
    plan_id, next_plan_id = fields["plan"]
    anchor, months_to_end, start, end = fields["period"]
    holds = tuple([_decode_hold(*each) for each in fields["holds"]]) if fields["holds"] else ()
    return Account(
        account_id,
        Subscription(plan_id, anchor, months_to_end, start, end, next_plan_id),
        tuple(grants),
        tuple(remaining),
        tuple([Grant(*each) for each in fields["pending"]]) if fields["pending"] else (),
        fields["seq"],
        fields["hash"],
        fields["posted"],
        holds,
        held_credits(holds) if holds else NO_CREDITS,
        PeriodTotals(*fields["totals"]),
        fields["boundary"],
        fields["closed"],
        DEFAULT_POLICY if fields["policy"] == _DEFAULT_POLICY else _decode_policy(*fields["policy"]),
        tuple(fields["alerted"]),
        tuple([Reversed(*each) for each in fields["reversals"]]) if fields.get("reversals") else (),
        tuple([BilledOverage(*each) for each in fields["billed"]]) if fields.get("billed") else (),
        NO_TOPUP if fields.get("topup") is None else TopupState(*fields["topup"]),
        tuple([UsedUp(*each) for each in fields["used_up"]]) if fields.get("used_up") else (),
    )


_DEFAULT_POLICY: Final = [None, list(THRESHOLDS_DEFAULT), None]


def _encode_policy(policy: Policy) -> tuple[Any, ...]:
    topup = policy.topup
    chosen = None if topup is None else (topup.threshold, topup.pack_id, topup.credits_max)
    return policy.overage_ceiling, policy.thresholds, chosen


def _decode_policy(
    overage_ceiling: Credits | None, thresholds: list[int], topup: list[Any] | None = None
) -> Policy:
    """Before credits could be bought automatically, a policy had two parts."""
    return Policy(overage_ceiling, tuple(thresholds), None if topup is None else TopupPolicy(*topup))


def _decode_hold(
    hold_id: str, amount: Credits, shares: list[Any], price_book: str, expires_at: Instant
) -> Hold:
    return Hold(hold_id, amount, tuple([GrantShare(*each) for each in shares]), price_book, expires_at)


def row_digest(key: bytes, row: bytes) -> int:
    """128 bits of one row; summed over a partition they say whether a loaded table is the one that was written."""
    return int.from_bytes(blake2b(b"%d:%b%b" % (len(key), key, row), digest_size=16).digest(), "big")


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first copy of an event or command was told: repeated to every resend."""

    fingerprint: Fingerprint
    code: int
    """1 metered, 2 accepted, or a reason's number (`domain.reasons`)."""
    credits: Credits
    offset: int
    accepted_at: Instant


IDENTITY_KEY_BYTES: Final = 16
_ANSWER: Final = Struct(">8sBqQQ")
_PACKED: Final = Struct(f">{IDENTITY_KEY_BYTES}s{_ANSWER.size}s")
IDENTITY_BYTES: Final = _PACKED.size
"""Key and answer, packed: 49."""


def encode_answer(
    fingerprint: Fingerprint, code: int, amount: Credits, offset: int, accepted_at: int
) -> bytes:
    """33 bytes: the fields of `FirstAnswer`, which is built only for a resend."""
    return _ANSWER.pack(fingerprint, code, amount, offset, accepted_at)


def decode_answer(packed: bytes) -> FirstAnswer:
    fingerprint, code, amount, offset, accepted_at = _ANSWER.unpack(packed)
    return FirstAnswer(fingerprint, code, amount, offset, accepted_at)


def identity_accepted_at_ms(packed: bytes) -> int:
    """When the first copy was accepted: decides how long the identity counts."""
    return int.from_bytes(packed[-8:], "big")


def pack_identities(identities: Mapping[bytes, bytes]) -> bytes:
    """The value of one record of `metering.identities.v1`: 49 bytes each, without separators."""
    return b"".join([key + answer for key, answer in identities.items()])


def unpack_identities(packed: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and answers of one record. Raises ValueError when the length is not a multiple of 49 bytes."""
    if len(packed) % IDENTITY_BYTES:
        raise ValueError(f"expected a multiple of {IDENTITY_BYTES} bytes of identities, got {len(packed)}")
    return _PACKED.iter_unpack(packed)
