"""Top-up orders: numbered without a gap in each account; each grant `topup:n` is the order n of that account, paid.

An order is below its threshold, at most one of an account is open at a time, and a crossing has one: before the next,
the account had the threshold again, or a decline, a new period or a new choice let it order. What a period has bought,
and the order with it, stays within the account's cap; and no order comes before a back-off is over.
"""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipeline.kafka import Message
from pipeline.reconcile.chain import micros
from pipeline.reconcile.report import Difference, Findings, Kind
from schemas.topics import TOPUP_ORDERS

GRANT_PREFIX: Final = "topup:"
_CHOSEN: Final = b"auto_topup"
_CONFIGURE: Final = ".configure.v1"


@dataclass(frozen=True, slots=True)
class _Order:
    offset: int
    number: int
    credits: int
    """Micro-credits, as all amounts here."""
    threshold: int
    left: int
    accepted_at: str


@dataclass(slots=True)
class _Account:
    """What bears on the orders of one account, by the offsets of the log."""

    orders: list[_Order] = field(default_factory=list[_Order])
    highest: list[int] = field(default_factory=list[int])
    """For each order: the greatest balance since the order before."""
    peak: int = 0
    balance: int = 0
    caps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """From the offset of each accepted choice on."""
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list[tuple[int, dict[str, Any]]])
    periods: list[int] = field(default_factory=list[int])
    """Offsets at which they began."""
    grants: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


@dataclass(slots=True, kw_only=True)
class Topups:
    """Reads the log, then all orders of a partition, results, statements and at last entries. Memory grows by orders,
    and by choices and periods of accounts."""

    partition: int
    findings: Findings
    whole: bool
    """Whether the topic still has its first record."""
    results_whole: bool = True
    accounts: defaultdict[str, _Account] = field(default_factory=lambda: defaultdict(_Account))
    paid: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    chosen: dict[int, int] = field(default_factory=dict[int, int])
    """Caps of choices by their offsets, accepted or not."""
    first_result: int | None = None
    """The offset of the first answer that is there."""

    def see(self, message: Message) -> None:
        """The next record of the log: an account's choice has its cap."""
        value = message.value() or b""
        if _CHOSEN not in value:
            return
        try:
            event = orjson.loads(value)
            chosen = (event["data"] if "specversion" in event else event)["auto_topup"]
            cap = 0 if chosen is None else micros(str(chosen["credits_max_per_period"]))
        except (ValueError, ArithmeticError, KeyError, TypeError):
            return  # Whatever it is, it cannot have been accepted.
        self.chosen[message.offset() or 0] = cap

    def read(self, record: dict[str, Any]) -> None:
        """The next order of the topic."""
        name, number, account = (
            record["account_id"],
            record["order_number"],
            self.accounts[record["account_id"]],
        )
        before = account.orders[-1].number if account.orders else 0 if self.whole else number - 1
        if number != before + 1:
            self._differ(name, record["offset"], f"order {before + 1}", f"order {number}")
        amount, threshold, left = (micros(record[each]) for each in ("credits", "threshold", "credits_left"))
        account.orders.append(
            _Order(record["offset"], number, amount, threshold, left, record["accepted_at"])
        )

    def answered(self, result: dict[str, Any]) -> None:
        """The next result: of the provider's answers, and of choices."""
        offset = result["offset"]
        if self.first_result is None:
            self.first_result = offset
        if result["outcome"] != "accepted":
            return
        if result.get("topup"):
            self.accounts[result["account_id"]].answers.append((offset, result["topup"]))
        elif offset in self.chosen and result["type"].endswith(_CONFIGURE):
            self.accounts[result["account_id"]].caps.append((offset, self.chosen[offset]))

    def closed(self, statement: dict[str, Any]) -> None:
        """The next statement: another period begins."""
        self.accounts[statement["account_id"]].periods.append(statement["offset"])

    def follow(self, entry: dict[str, Any], amount: int) -> None:
        """The next entry of the ledger."""
        name, offset = entry["account_id"], entry["offset"]
        if name in self.accounts:
            self._follow_balance(self.accounts[name], offset, micros(entry["balance_after"]))
        names = [share["grant_id"] for share in entry["grants"] if entry["kind"] == "grant"]
        grant = next((each for each in names if each.startswith(GRANT_PREFIX)), None)
        if grant is None:
            return
        account, number = self.accounts[name], int(grant.removeprefix(GRANT_PREFIX))
        account.grants.append((offset, amount))
        ordered = next((each.credits for each in account.orders if each.number == number), None)
        if (name, number) in self.paid:
            ordered = None
        self.paid.add((name, number))
        if ordered != amount and (ordered is not None or self.whole):
            expected = (
                "no grant: nothing was ordered, or it was paid before" if ordered is None else str(ordered)
            )
            self._differ(name, offset, expected, f"{grant} of {amount}")

    def _follow_balance(self, account: _Account, offset: int, balance: int) -> None:
        while (
            len(account.highest) < len(account.orders)
            and offset > account.orders[len(account.highest)].offset
        ):
            account.highest.append(account.peak)
            account.peak = account.balance
        account.balance, account.peak = balance, max(account.peak, balance)

    def finish(self) -> None:
        """Everything was read."""
        known_from = 0 if self.results_whole else self.first_result
        for name, account in sorted(self.accounts.items()):
            missing = len(account.orders) - len(account.highest)
            account.highest += [account.peak, *[account.balance] * missing][:missing]
            for place, order in enumerate(account.orders):
                if order.left >= order.threshold:
                    self._differ(name, order.offset, f"less than {order.threshold} left", str(order.left))
                self._check_cap(name, account, order)
                if place and known_from is not None and account.orders[place - 1].offset >= known_from:
                    self._check_crossing(name, account, place)

    def _check_cap(self, name: str, account: _Account, order: _Order) -> None:
        """A grant at the offset of a statement comes after it: time passes first."""
        chosen = [cap for offset, cap in account.caps if offset <= order.offset]
        if not chosen:
            return  # Older than the log.
        began = account.periods[bisect_right(account.periods, order.offset) - 1] if account.periods else 0
        began = began if began <= order.offset else 0
        bought = sum(amount for offset, amount in account.grants if began <= offset <= order.offset)
        if bought + order.credits > chosen[-1]:
            expected = f"at most {chosen[-1]} bought in a period"
            self._differ(name, order.offset, expected, f"order of {order.credits} after {bought}")

    def _check_crossing(self, name: str, account: _Account, place: int) -> None:
        before, order = account.orders[place - 1], account.orders[place]
        answers = [said for offset, said in account.answers if before.offset < offset <= order.offset]
        if before.number not in {said["order"] for said in answers}:
            self._differ(
                name, order.offset, f"an answer to order {before.number} first", f"order {order.number}"
            )
            return
        waits = answers[-1]["not_before"]
        if waits is not None and order.accepted_at < waits:
            self._differ(name, order.offset, f"no order before {waits}", order.accepted_at)
        marks = [*account.periods, *[offset for offset, _ in account.caps]]
        let = waits is not None or any(before.offset < offset <= order.offset for offset in marks)
        if not let and account.highest[place] < order.threshold:
            expected = f"{order.threshold} left once more after order {before.number}"
            self._differ(name, order.offset, expected, f"at most {account.highest[place]}")

    def _differ(self, account: str, offset: int, expected: str, found: str) -> None:
        self.findings.add(
            Difference(
                kind=Kind.TOPUP_DIFFERS,
                where=TOPUP_ORDERS,
                partition=self.partition,
                offset=offset,
                account_id=account,
                event_id="",
                expected=expected,
                found=found,
            )
        )
