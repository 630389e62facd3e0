"""What the auditor knows of every charge: who paid how much of it, and what was taken back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.simulation.auditor_parsing import UsageClaim

if TYPE_CHECKING:
    from tests.simulation.auditor import AuditedAccount, AuditedGrant

NOTHING = Decimal(0)
CORRECTED_MAX = 1000


@dataclass(slots=True)
class AuditedCharge:
    """A metered record. `usage` None: it is no charge (denied, seen before, a reversal)."""

    account: str
    at_ms: int
    usage: UsageClaim | None = None
    cost: Decimal = NOTHING
    paid: list[tuple["AuditedGrant", Decimal]] = field(default_factory=list)
    beyond: Decimal = NOTHING
    """What of it was overage."""
    period: int = 0
    """The account's period in which it was charged, counted from 0."""
    taken_back: Decimal = NOTHING

    def _last_first(self) -> Iterator[tuple["AuditedGrant | None", Decimal]]:
        yield None, self.beyond
        yield from reversed(self.paid)

    def take_back(self, amount: Decimal, account: "AuditedAccount", now_ms: int) -> None:
        """Give so much more of it back: what was used last returns first, to grants that are still there."""
        already, due = self.taken_back, amount
        for grant, part in self._last_first():
            skipped = min(already, part)
            already -= skipped
            back = min(part - skipped, due)
            due -= back
            if grant is None:
                self._owe_less(back, account)
            elif any(grant is each for each in account.grants) and grant.counts_at(now_ms):
                grant.remaining += back
                if back:
                    grant.empty_ms = None
        assert due == NOTHING
        self.taken_back += amount
        account.used -= amount
        account.taken_back_in_period += amount

    def _owe_less(self, back: Decimal, account: "AuditedAccount") -> None:
        """Of the running period, or of one that has been billed."""
        if self.period == len(account.statements):
            account.overage -= back
        elif back:
            account.returned[self.period] = account.returned.get(self.period, NOTHING) + back


@dataclass(slots=True)
class AuditedCharges:
    """By their offset in the log."""

    days_ms: int
    known: dict[int, AuditedCharge] = field(default_factory=dict)

    def named(self, account: str, offset: int, now_ms: int) -> AuditedCharge | str:
        """The charge, or the reason why there is none to correct."""
        charge = self.known.get(offset)
        if charge is None:
            return "record_not_found"
        if charge.account != account:
            return "record_mismatch"
        if charge.usage is None or not charge.cost:
            return "not_reversible"
        return "reversal_too_late" if charge.at_ms < now_ms - self.days_ms else charge

    def is_full(self, account: str, now_ms: int) -> bool:
        """Whether too many young charges of the account were corrected."""
        corrected = [each for each in self.known.values() if each.account == account and each.taken_back]
        return sum(each.at_ms >= now_ms - self.days_ms for each in corrected) >= CORRECTED_MAX
