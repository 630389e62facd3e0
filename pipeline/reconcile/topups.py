"""Top-up orders: numbered without a gap in each account; each grant `topup:n` is the order n of that account, paid."""

from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.reconcile.chain import micros
from pipeline.reconcile.report import Difference, Findings, Kind
from schemas.topics import TOPUP_ORDERS

GRANT_PREFIX: Final = "topup:"


@dataclass(slots=True, kw_only=True)
class Topups:
    """Reads all orders of a partition first, then its entries. Memory grows by orders."""

    partition: int
    findings: Findings
    whole: bool
    """Whether the topic still has its first record."""
    orders: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    """Micro-credits by account and number."""
    newest: dict[str, int] = field(default_factory=dict[str, int])

    def read(self, record: dict[str, Any]) -> None:
        """The next order of the topic."""
        account, number = record["account_id"], record["order_number"]
        before = self.newest.get(account, 0 if self.whole else number - 1)
        if number != before + 1:
            self._differ(account, record["offset"], f"order {before + 1}", f"order {number}")
        self.newest[account] = number
        self.orders[account, number] = micros(record["credits"])

    def follow(self, entry: dict[str, Any], amount: int) -> None:
        """The next entry of the ledger."""
        names = [share["grant_id"] for share in entry["grants"] if entry["kind"] == "grant"]
        grant = next((name for name in names if name.startswith(GRANT_PREFIX)), None)
        if grant is None:
            return
        ordered = self.orders.pop((entry["account_id"], int(grant.removeprefix(GRANT_PREFIX))), None)
        if ordered != amount and (ordered is not None or self.whole):
            expected = (
                "no grant: nothing was ordered, or it was paid before" if ordered is None else str(ordered)
            )
            self._differ(entry["account_id"], entry["offset"], expected, f"{grant} of {amount}")

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
