"""The auditor: what every record of the input log must lead to, worked out a second time.

It shares no code with the pipeline. Prices are typed in again from the product's rules, amounts are
`Decimal`, JSON is the standard library's. Where the two differ, one of them is wrong, and neither is trusted
more.
"""

import calendar
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.simulation.auditor_parsing import CommandClaim, Malformed, UsageClaim, parse
from tests.simulation.auditor_prices import price_of_image

DEFAULT_PRIORITY = {"monthly": 10, "promotional": 20, "goodwill": 30, "prepaid": 40}
LIVE_GRANTS_MAX = 256
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class AuditRules:
    """The bounds of the deployment that is audited."""

    command_keys: Mapping[str, bytes]
    plan_credits: Mapping[str, Decimal]
    """Monthly credits by plan."""
    free_plans: frozenset[str]
    window_ms: int = 72 * 3_600_000
    ahead_ms: int = 300_000
    event_bytes_max: int = 262_144


@dataclass(frozen=True, slots=True)
class Verdict:
    """What must have become of one record."""

    outcome: str
    """metered, denied, duplicate, accepted, refused, dead_letter or tick."""
    reason: str = ""
    """Of dead letters a class: malformed, unsigned, conflict, unknown_account, too_late, too_early."""
    account: str = ""
    event_id: str = ""
    credits: Decimal = NOTHING
    rated: Decimal = NOTHING
    balance_after: Decimal = NOTHING


@dataclass(slots=True)
class AuditedGrant:
    grant_id: str
    kind: str
    priority: int
    remaining: Decimal
    effective_ms: int
    expires_ms: int | None
    order: int
    """The place among all grants of the account by acceptance."""

    def burns_before(self) -> tuple[int, bool, int, int, str]:
        return (self.priority, self.expires_ms is None, self.expires_ms or 0, self.order, self.grant_id)


@dataclass(slots=True)
class AuditedAccount:
    plan: str
    grants: list[AuditedGrant] = field(default_factory=list)
    granted: int = 0
    used: Decimal = NOTHING

    def settle(self, clock_ms: int) -> None:
        """Forget what has expired: from the instant of its expiry on, nothing of a grant can be used."""
        self.grants = [g for g in self.grants if g.expires_ms is None or g.expires_ms > clock_ms]

    def usable(self, clock_ms: int) -> list[AuditedGrant]:
        begun = [grant for grant in self.grants if grant.effective_ms <= clock_ms]
        return sorted(begun, key=AuditedGrant.burns_before)

    def balance(self, clock_ms: int) -> Decimal:
        return sum((grant.remaining for grant in self.usable(clock_ms)), NOTHING)

    def grant(
        self, grant_id: str, kind: str, amount: Decimal, *, effective_ms: int, expires_ms: int | None,
        priority: int | None = None,
    ) -> None:  # fmt: skip
        rank = DEFAULT_PRIORITY[kind] if priority is None else priority
        self.granted += 1
        self.grants.append(AuditedGrant(grant_id, kind, rank, amount, effective_ms, expires_ms, self.granted))


@dataclass(frozen=True, slots=True)
class _FirstAnswer:
    fingerprint: bytes
    accepted_ms: int
    reason: str
    """Why it was denied or refused; empty when it was not."""
    rated: Decimal


@dataclass(slots=True)
class Auditor:
    """Reads one partition's records in the order of the log. `accounts` is the table as it must be."""

    rules: AuditRules
    accounts: dict[str, AuditedAccount] = field(default_factory=dict)
    clock_ms: int = 0
    answers: dict[tuple[str, str, str], _FirstAnswer] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def judge(
        self, accepted_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> Verdict:
        """The verdict on the next record."""
        self.clock_ms = max(self.clock_ms, accepted_ms)
        claim = parse(key, value, headers, self.rules.event_bytes_max, self.rules.command_keys)
        verdict = self._judge(claim)
        self.outcomes[verdict.outcome] += 1
        return verdict

    def balances(self) -> dict[str, Decimal]:
        """What every account must have left now."""
        for account in self.accounts.values():
            account.settle(self.clock_ms)
        return {name: account.balance(self.clock_ms) for name, account in self.accounts.items()}

    def _judge(self, claim: UsageClaim | CommandClaim | Malformed | None) -> Verdict:
        if claim is None:
            return Verdict("tick")
        if isinstance(claim, Malformed):
            return Verdict("dead_letter", claim.reason)
        if claim.account in self.accounts:
            self.accounts[claim.account].settle(self.clock_ms)
        repeated = self._repeated(claim)
        if repeated is not None:
            return repeated
        return self._use(claim) if isinstance(claim, UsageClaim) else self._obey(claim)

    def _repeated(self, claim: UsageClaim | CommandClaim) -> Verdict | None:
        first = self.answers.get((claim.account, claim.source, claim.event_id))
        horizon = self.rules.window_ms + self.rules.ahead_ms
        if first is None or first.accepted_ms < self.clock_ms - horizon:
            return None
        if first.fingerprint != claim.fingerprint:
            return Verdict("dead_letter", "conflict", claim.account, claim.event_id)
        account = self.accounts.get(claim.account)
        balance = account.balance(self.clock_ms) if account else NOTHING
        reason = first.reason or ("duplicate" if isinstance(claim, UsageClaim) else "")
        return Verdict("duplicate", reason, claim.account, claim.event_id, NOTHING, first.rated, balance)

    def _outside_window(self, claim: UsageClaim | CommandClaim) -> str:
        if claim.occurred_ms < self.clock_ms - self.rules.window_ms:
            return "too_late"
        return "too_early" if claim.occurred_ms > self.clock_ms + self.rules.ahead_ms else ""

    def _answered(self, claim: UsageClaim | CommandClaim, reason: str, rated: Decimal) -> None:
        identity = (claim.account, claim.source, claim.event_id)
        self.answers[identity] = _FirstAnswer(claim.fingerprint, self.clock_ms, reason, rated)

    def _use(self, claim: UsageClaim) -> Verdict:
        account = self.accounts.get(claim.account)
        reason = "unknown_account" if account is None else self._outside_window(claim)
        if account is None or reason:
            return Verdict("dead_letter", reason, claim.account, claim.event_id)
        cost = price_of_image(claim.service, claim.data) * claim.images
        available = account.balance(self.clock_ms)
        reason = self._denial(account, available) if cost > available else ""
        self._answered(claim, reason, cost)
        if reason:
            return Verdict("denied", reason, claim.account, claim.event_id, NOTHING, cost, available)
        _burn(account.usable(self.clock_ms), cost)
        account.used += cost
        left = account.balance(self.clock_ms)
        return Verdict("metered", "", claim.account, claim.event_id, cost, cost, left)

    def _denial(self, account: AuditedAccount, available: Decimal) -> str:
        if available > 0:
            return "insufficient_credits"
        return "plan_paused" if account.plan in self.rules.free_plans else "credits_exhausted"

    def _obey(self, claim: CommandClaim) -> Verdict:
        outside = self._outside_window(claim)
        if outside:
            return Verdict("dead_letter", outside, claim.account, claim.event_id)
        carry_out = {"open": self._open, "grant": self._grant, "void_grant": self._void}[claim.verb]
        reason = carry_out(claim)
        self._answered(claim, reason, NOTHING)
        account = self.accounts.get(claim.account)
        balance = account.balance(self.clock_ms) if account else NOTHING
        outcome = "refused" if reason else "accepted"
        return Verdict(outcome, reason, claim.account, claim.event_id, balance_after=balance)

    def _open(self, claim: CommandClaim) -> str:
        plan = claim.data["plan"]
        if claim.account in self.accounts:
            return "account_exists"
        if plan not in self.rules.plan_credits:
            return "unknown_plan"
        account = self.accounts[claim.account] = AuditedAccount(plan)
        credits_ = self.rules.plan_credits[plan]
        if credits_:
            expires = one_month_after(self.clock_ms)
            account.grant("", "monthly", credits_, effective_ms=self.clock_ms, expires_ms=expires)
        return ""

    def _grant(self, claim: CommandClaim) -> str:
        account = self.accounts.get(claim.account)
        if account is None:
            return "unknown_account"
        data = claim.data
        if any(grant.grant_id == data["grant_id"] for grant in account.grants):
            return "grant_exists"
        if len(account.grants) >= LIVE_GRANTS_MAX:
            return "too_many_grants"
        expires = data.get("expires_ms")
        if expires is not None and expires <= self.clock_ms:
            return "grant_expired"
        effective = data.get("effective_ms") or self.clock_ms
        account.grant(
            data["grant_id"], data["kind"], data["amount"],
            effective_ms=max(effective, self.clock_ms), expires_ms=expires, priority=data.get("priority"),
        )  # fmt: skip
        return ""

    def _void(self, claim: CommandClaim) -> str:
        account = self.accounts.get(claim.account)
        if account is None:
            return "unknown_account"
        kept = [grant for grant in account.grants if grant.grant_id != claim.data["grant_id"]]
        if len(kept) == len(account.grants):
            return "unknown_grant"
        account.grants = kept
        return ""


def _burn(grants: Iterable[AuditedGrant], cost: Decimal) -> None:
    for grant in grants:
        part = min(grant.remaining, cost)
        grant.remaining -= part
        cost -= part
    assert cost == 0


def one_month_after(start_ms: int) -> int:
    """The same day and time of the next month, or that month's last day where it is shorter."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms)
    year, month = (start.year, start.month + 1) if start.month < 12 else (start.year + 1, 1)
    day = min(start.day, calendar.monthrange(year, month)[1])
    ahead = start.replace(year=year, month=month, day=day) - start
    return start_ms + ahead // timedelta(milliseconds=1)


def rules_from_plan_file(path: Path, command_keys: Mapping[str, bytes]) -> AuditRules:
    """The rules with the plans of a published file and every other bound at its default."""
    plans = json.loads(path.read_text())["plans"]
    return AuditRules(
        command_keys=command_keys,
        plan_credits={plan["plan"]: Decimal(plan["monthly_credits"]) for plan in plans},
        free_plans=frozenset(plan["plan"] for plan in plans if not plan["paid"]),
    )


DEAD_LETTER_CLASSES: Mapping[str, str] = {
    "too_large": "malformed",
    "malformed_json": "malformed",
    "invalid_envelope": "malformed",
    "unknown_type": "malformed",
    "key_mismatch": "malformed",
    "invalid_data": "malformed",
    "bad_signature": "unsigned",
}
"""The pipeline says more exactly than the auditor what is malformed; all other reasons have the same name."""
