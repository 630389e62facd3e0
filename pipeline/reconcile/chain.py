"""The ledger of each account as a chain: numbers without a gap, hashes that follow, balances that add up.

Overage is entered right before the usage that takes it, and leaves right after a reversal that gives it back: all of it
and nothing else.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from pipeline.reconcile.instants import epoch_ms
from pipeline.reconcile.report import Difference, Findings, Kind
from schemas.topics import LEDGER_ENTRIES

FIRST_HASH: Final = "0" * 32
MICROS_DIGITS: Final = 6
OVERAGE: Final = "overage"
"""The kind of an entry, and in the place of a grant what it gives to the usage entry behind it."""


@dataclass(frozen=True, slots=True)
class Link:
    """An account's newest entry."""

    entry_seq: int
    entry_hash: str
    balance: int


def micros(text: str) -> int:
    """A decimal string in millionths of a credit. Raises ValueError for parts of a millionth, and for exponents."""
    whole_text, _, part = text.partition(".")
    if len(part) <= MICROS_DIGITS:  # Nearly always, and in a quarter of the time.
        return int(whole_text + part.ljust(MICROS_DIGITS, "0"))
    amount = Decimal(text).scaleb(6)
    whole = int(amount)
    if whole != amount:
        raise ValueError(f"expected credits in millionths, got {text!r}")
    return whole


@dataclass(slots=True)
class Chains:
    """Follows the entries of one partition in their order."""

    findings: Findings
    whole: bool
    """Whether the topic still has its first entry; else an account's chain may begin in the middle."""
    newest: dict[str, Link] = field(default_factory=dict[str, Link])
    overage: dict[str, int] = field(default_factory=dict[str, int])
    """By account what the next entry must take (or, below zero, take away again) of overage."""

    def follow(self, entry: dict[str, Any]) -> int:
        """Check one entry against the one before it; returns its micro-credits."""
        account, seq, amount = entry["account_id"], entry["entry_seq"], micros(entry["credits"])
        balance = micros(entry["balance_after"])
        before = self.newest.get(account)
        if before is not None or self.whole or seq == 1:
            self._follow_overage(entry, amount)
        if before is None:
            before = Link(0, FIRST_HASH, 0)
            if seq > 1 and not self.whole:
                before = Link(seq - 1, entry["previous_hash"], balance - amount)
        self._expect(entry, "entry_seq", before.entry_seq + 1, seq)
        self._expect(entry, "previous_hash", before.entry_hash, entry["previous_hash"])
        self._expect(entry, "balance_after", before.balance + amount, balance)
        self._expect(entry, "entry_hash", hash_of(entry, amount, balance), entry["entry_hash"])
        self.newest[account] = Link(seq, entry["entry_hash"], balance)
        return amount

    def _follow_overage(self, entry: dict[str, Any], amount: int) -> None:
        account = entry["account_id"]
        due, taken = self.overage.pop(account, 0), 0
        if entry["kind"] == OVERAGE:
            taken = min(amount, 0)  # Given back by the reversal before.
            self.overage[account] = max(amount, 0)
        else:
            taken = sum(micros(share["credits"]) for share in entry["grants"] if share["grant_id"] == OVERAGE)
        if entry["kind"] == "reversal":
            self.overage[account], taken = -taken, 0
        self._expect(entry, "overage", due, taken)

    def _expect(self, entry: dict[str, Any], what: str, expected: object, found: object) -> None:
        if expected != found:
            self.findings.add(
                Difference(
                    kind=Kind.CHAIN_BROKEN,
                    where=LEDGER_ENTRIES,
                    partition=entry["partition"],
                    offset=entry["offset"],
                    account_id=entry["account_id"],
                    event_id=entry["cause_id"],
                    expected=f"{what} {expected}",
                    found=f"{what} {found}",
                )
            )


def hash_of(entry: dict[str, Any], amount: int, balance: int) -> str:
    """The hash as `schemas/ledger_entry.py` documents it."""
    sign = -1 if amount < 0 else 1
    shares = [f"{share['grant_id']}:{sign * micros(share['credits'])}" for share in entry["grants"]]
    lines = [
        entry["previous_hash"],
        entry["account_id"],
        entry["entry_seq"],
        entry["kind"],
        amount,
        balance,
        epoch_ms(entry["booked_at"]),
        entry["partition"],
        entry["offset"],
        entry["cause_id"],
        ",".join(shares),
    ]
    return blake2b("\n".join(map(str, lines)).encode(), digest_size=16).hexdigest()
