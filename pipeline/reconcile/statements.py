"""Statements against the ledger: each adds up, goes on where the one before ended, and says what its entries say.

What has happened since an account's newest statement stands in its row of the table: so a statement that is missing
at the end shows too. Memory grows by accounts and their statements, of which the log keeps one or two each.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pipeline.reconcile.chain import micros
from pipeline.reconcile.report import Difference, Findings, Kind
from pipeline.reconcile.table import MOVED, TableRow
from schemas.topics import ACCOUNT_STATEMENTS

_PLACE_OF_KIND: Final = {"grant": 0, "usage": 1, "expiration": 2, "void": 3, "overage": 4, "reversal": 5}
_SIGNS: Final = (1, -1, -1, -1, 1, 1, -1)
Moved = tuple[int, ...]
"""The amounts of `MOVED`, in micro-credits, none of them negative; the balance has moved by the sum with `_SIGNS`."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a statement says."""

    offset: int
    period_end: str
    last_entry_seq: int
    moved: Moved
    closing: int


@dataclass(slots=True)
class _Account:
    claims: deque[_Claim] = field(default_factory=deque[_Claim])
    """Not yet held to the entries."""
    newest: _Claim | None = None
    """Of all that were read."""
    prices: dict[str, tuple[str | None, str]] = field(default_factory=dict[str, tuple[str | None, str]])
    """Of overage, with its currency, by the end of the period that billed it."""
    since: int | None = None
    """The last entry of the statement before; None where the log does not hold that statement any more."""
    seen_after: int | None = None
    """All entries after this one were seen; None before the first."""
    last_seq: int = 0
    balance: int = 0
    moved: list[int] = field(default_factory=lambda: [0] * len(MOVED))


@dataclass(slots=True, kw_only=True)
class Statements:
    """Reads all statements of a partition first, then its entries, then the table."""

    partition: int
    findings: Findings
    whole: bool
    """Whether the statements' topic still has its first record."""
    entries_whole: bool
    accounts: dict[str, _Account] = field(default_factory=dict[str, _Account])

    def read(self, record: dict[str, Any]) -> None:
        """The next statement of the topic."""
        name, offset = record["account_id"], record["offset"]
        opening, closing = micros(record["opening"]), micros(record["closing"])
        moved = tuple(micros(record[each]) for each in MOVED)
        difference = sum(sign * amount for sign, amount in zip(_SIGNS, moved, strict=True))
        self._expect(name, offset, "closing", opening + difference, closing)
        owed = _money(record["overage"], record)
        self._expect(name, offset, "overage_amount", owed, Decimal(record["overage_amount"]))
        if micros(record["overage"]):
            self._expect(name, offset, "a price for overage", True, record["overage_price"] is not None)  # noqa: FBT003
        account = self._account(name)
        self._follow_returns(account, record)
        before = account.newest
        if before is not None:
            self._expect(name, offset, "opening", before.closing, opening)
            self._expect(name, offset, "period_start", before.period_end, record["period_start"])
        elif self.whole:
            self._expect(name, offset, "opening", 0, opening)
        account.newest = _Claim(offset, record["period_end"], record["last_entry_seq"], moved, closing)
        account.claims.append(account.newest)

    def _follow_returns(self, account: _Account, record: dict[str, Any]) -> None:
        """Overage goes back at the price at which the statement of its period has billed it."""
        name, offset = record["account_id"], record["offset"]
        returns = record["overage_returns"]
        total = sum(micros(each["credits"]) for each in returns)
        self._expect(name, offset, "overage_returned", total, micros(record["overage_returned"]))
        for each in returns:
            back = _money(each["credits"], each)
            self._expect(name, offset, "amount of overage_returns", back, Decimal(each["amount"]))
            billed = account.prices.get(each["period_end"])
            if billed is not None or self.whole:
                said = (each["overage_price"], each["currency"])
                self._expect(name, offset, "price of overage_returns", billed, said)
        account.prices[record["period_end"]] = (record["overage_price"], record["currency"])

    def follow(self, entry: dict[str, Any], amount: int) -> None:
        """The next entry of the ledger."""
        name, seq = entry["account_id"], entry["entry_seq"]
        account = self._account(name)
        while account.claims and seq > account.claims[0].last_entry_seq:
            self._close(name, account)
        if account.seen_after is None:
            account.seen_after = seq - 1
        account.last_seq, account.balance = seq, micros(entry["balance_after"])
        place = _PLACE_OF_KIND[entry["kind"]]
        account.moved[place] += _SIGNS[place] * amount

    def finish(self, rows: Mapping[str, TableRow]) -> None:
        """All entries were followed; `rows` is the table after the last of them."""
        for name in sorted(self.accounts.keys() | rows.keys()):
            account = self._account(name)
            while account.claims:
                self._close(name, account)
            row = rows.get(name)
            if row is not None:
                self._check_row(name, account, row)

    def _close(self, name: str, account: _Account) -> None:
        claim = account.claims.popleft()
        if self._knows(account, claim.last_entry_seq):
            self._expect(name, claim.offset, "last_entry_seq", account.last_seq, claim.last_entry_seq)
            for what, summed, said in zip(MOVED, account.moved, _entered(claim.moved), strict=True):
                self._expect(name, claim.offset, what, summed, said)
        if account.last_seq == claim.last_entry_seq and account.last_seq:
            self._expect(name, claim.offset, "closing", account.balance, claim.closing)
        account.since, account.moved = claim.last_entry_seq, [0] * len(MOVED)

    def _check_row(self, name: str, account: _Account, row: TableRow) -> None:
        """The running period."""
        if account.newest is not None:
            self._expect(name, -1, "opening", account.newest.closing, row.opening, "changelog")
            if not row.closed:
                self._expect(
                    name, -1, "period_start", account.newest.period_end, row.period_start, "changelog"
                )
        if self._knows(account, row.entry_seq):
            for what, summed, said in zip(MOVED, account.moved, _entered(row.moved), strict=True):
                self._expect(name, -1, what, summed, said, "changelog")

    def _knows(self, account: _Account, last_seq: int) -> bool:
        """Whether every entry after the statement before, up to `last_seq`, was there to be seen."""
        if account.since is None or account.since == last_seq or self.entries_whole:
            return account.since is not None
        return account.seen_after is not None and account.seen_after <= account.since

    def _account(self, name: str) -> _Account:
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = _Account(since=0 if self.whole else None)
        return account

    def _expect(
        self,
        name: str,
        offset: int,
        what: str,
        expected: object,
        found: object,
        where: str = ACCOUNT_STATEMENTS,
    ) -> None:
        if expected != found:
            self.findings.add(
                Difference(
                    kind=Kind.STATEMENT_DIFFERS,
                    where=where,
                    partition=self.partition,
                    offset=offset,
                    account_id=name,
                    event_id="",
                    expected=f"{what} {expected}",
                    found=f"{what} {found}",
                )
            )


def _entered(moved: Moved) -> Moved:
    """As the entries say it: they do not tell overage of closed periods from that of the running one."""
    *others, overage, taken_back, returned = moved
    return (*others, overage - returned, taken_back, 0)


def _money(overage: str, billed: dict[str, Any]) -> Decimal:
    """What is owed for overage, or given back of it, at the price that stands there."""
    return Decimal(overage) * Decimal(billed["overage_price"] or 0)
