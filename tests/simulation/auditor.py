"""The auditor: what every record of the input log must lead to, worked out a second time.

It shares no code with the pipeline. Prices are typed in again from the product's rules, amounts are
`Decimal`, JSON is the standard library's. Where the two differ, one of them is wrong, and neither is trusted
more.
"""

import calendar
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.simulation.auditor_charges import AuditedCharge, AuditedCharges
from tests.simulation.auditor_parsing import CommandClaim, Malformed, PublicationClaim, UsageClaim, parse
from tests.simulation.auditor_schedule import AuditedBook, AuditedPlans, AuditedSchedule, plans_of
from tests.simulation.auditor_topup import AuditedTopup

DEFAULT_PRIORITY = {"monthly": 10, "promotional": 20, "goodwill": 30, "prepaid": 40}
REMEMBERED_MS = 35 * 24 * 3_600_000
"""How long a charge can be taken back, at most."""
WANT_OF_CREDITS = {"plan_paused", "credits_exhausted", "insufficient_credits"}
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class AuditRules:
    """The bounds of the deployment that is audited."""

    command_keys: Mapping[str, bytes]
    plans: AuditedPlans
    """What the deployment begins with; its first price book is the product's rules."""
    window_ms: int = 72 * 3_600_000
    lead_ms: int = 60_000
    late_ms: int = 35 * 24 * 3_600_000
    ahead_ms: int = 300_000
    event_bytes_max: int = 262_144
    grants_max: int = 256
    holds_max: int = 1000
    hold_shares_max: int = 2000


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
    created_ms: int
    amount: Decimal = NOTHING
    begun: bool = False
    empty_ms: int | None = None
    """When it was first seen with nothing left nor held, and has been so since."""

    def burns_before(self) -> tuple[int, bool, int, int, str]:
        return (self.priority, self.expires_ms is None, self.expires_ms or 0, self.created_ms, self.grant_id)

    def counts_at(self, at_ms: int) -> bool:
        return self.effective_ms <= at_ms and (self.expires_ms is None or self.expires_ms > at_ms)


@dataclass(slots=True)
class AuditedHold:
    """Credits set aside: which grants gave how much, in burn order."""

    taken: list[tuple[AuditedGrant, Decimal]]
    expires_ms: int
    beyond: Decimal
    """What of it would be overage."""
    book: AuditedBook
    """Its price is locked."""

    @property
    def from_grants(self) -> Decimal:
        return sum((part for _, part in self.taken), NOTHING)

    @property
    def credits(self) -> Decimal:
        return self.from_grants + self.beyond


@dataclass(frozen=True, slots=True)
class AuditedStatement:
    """What a closed period must say."""

    plan: str
    start_ms: int
    end_ms: int
    price: Decimal | None
    """Money for one credit of overage."""
    opening: Decimal
    used: Decimal
    overage: Decimal
    closing: Decimal
    returns: tuple[tuple[int, Decimal, Decimal | None], ...] = ()
    """Overage of closed periods that was taken back: the period's end, credits, and at which price."""


def statement_of(record: Mapping[str, Any], at_ms: Callable[[str], int]) -> AuditedStatement:
    """What a statement of the pipeline says; `at_ms` reads its instants."""

    def price(of: Mapping[str, Any]) -> Decimal | None:
        return None if of["overage_price"] is None else Decimal(of["overage_price"])

    return AuditedStatement(
        record["plan"],
        at_ms(record["period_start"]),
        at_ms(record["period_end"]),
        price(record),
        Decimal(record["opening"]),
        Decimal(record["used"]),
        Decimal(record["overage"]),
        Decimal(record["closing"]),
        tuple(
            (at_ms(each["period_end"]), Decimal(each["credits"]), price(each))
            for each in record["overage_returns"]
        ),
    )


@dataclass(frozen=True, slots=True)
class AuditedAlert:
    """`threshold` 0 is the first denial."""

    threshold: int
    period_start_ms: int
    used: Decimal
    base: Decimal


@dataclass(slots=True)
class AuditedAccount:
    plan: str
    anchor_ms: int
    schedule: AuditedSchedule
    next_plan: str = ""
    months: int = 0
    start_ms: int = 0
    grants: list[AuditedGrant] = field(default_factory=list)
    used: Decimal = NOTHING
    used_in_period: Decimal = NOTHING
    opening: Decimal = NOTHING
    statements: list[AuditedStatement] = field(default_factory=list)
    closed: bool = False
    holds: dict[str, AuditedHold] = field(default_factory=dict)
    ended: dict[str, tuple[str, int]] = field(default_factory=dict)
    """How each hold ended, and when."""
    topup: AuditedTopup = field(default_factory=AuditedTopup)
    ceiling: Decimal | None = None
    overage: Decimal = NOTHING
    taken_back_in_period: Decimal = NOTHING
    returned: dict[int, Decimal] = field(default_factory=dict)
    """Overage that was taken back in this period, by the number of the closed period that billed it."""
    granted: Decimal = NOTHING
    voided: Decimal = NOTHING
    thresholds: tuple[int, ...] = (80, 100, 110)
    sent: set[int] = field(default_factory=set)
    alerts: list[AuditedAlert] = field(default_factory=list)

    @property
    def held(self) -> Decimal:
        return sum((hold.from_grants for hold in self.holds.values()), NOTHING)

    def room(self) -> Decimal:
        if self.ceiling is None or self.closed:
            return NOTHING
        aside = sum((hold.beyond for hold in self.holds.values()), NOTHING)
        return max(NOTHING, self.ceiling - self.overage - aside)

    def used_of_base(self, at_ms: int) -> tuple[Decimal, Decimal]:
        if self.schedule.plans_at(at_ms).credits[self.plan]:
            used = max(NOTHING, self.used_in_period - self.taken_back_in_period)
            return used, self.opening + self.granted - self.voided
        live = [grant for grant in self.grants if grant.begun and grant.counts_at(at_ms)]
        base = sum((grant.amount for grant in live), NOTHING)
        aside = sum(
            (
                part
                for hold in self.holds.values()
                for grant, part in hold.taken
                if any(grant is g for g in live)
            ),
            NOTHING,
        )
        return base - sum((grant.remaining for grant in live), NOTHING) - aside + self.overage, base

    def look_at_thresholds(self, at_ms: int) -> None:
        """After a charge: the highest that is reached and was not sent; those below it count as sent."""
        used, base = self.used_of_base(at_ms)
        reached = [each for each in self.thresholds if base > 0 and used >= base * each / 100]
        if (
            set(reached) - self.sent
            and max(reached) not in self.sent
            and self.thresholds[-1] not in self.sent
        ):
            self.alerts.append(AuditedAlert(max(reached), self.start_ms, used, base))
            self.sent |= set(reached)

    def note_denial(self, at_ms: int) -> None:
        if 0 not in self.sent:
            self.sent.add(0)
            self.alerts.append(AuditedAlert(0, self.start_ms, *self.used_of_base(at_ms)))

    def rearm(self, at_ms: int) -> None:
        used, base = self.used_of_base(at_ms)
        self.sent = {each for each in self.sent if each and used >= base * each / 100}

    def charge(self, cost: Decimal, beyond: Decimal, at_ms: int) -> None:
        self.used += cost
        self.used_in_period += cost
        self.overage += beyond
        self.look_at_thresholds(at_ms)

    def end_hold(
        self, hold_id: str, how: str, charged: Decimal, at_ms: int
    ) -> tuple[list[tuple[AuditedGrant, Decimal]], Decimal]:
        """The front of what was taken is used; the rest goes back to grants that are there until `at_ms`.
        Returns who paid for what was used, and what of it was overage."""
        hold = self.holds.pop(hold_id)
        paid: list[tuple[AuditedGrant, Decimal]] = []
        for grant, part in hold.taken:
            used = min(part, charged)
            charged -= used
            paid.append((grant, used))
            if any(each is grant for each in self.grants) and grant.counts_at(
                at_ms - (how == "hold_expired")
            ):
                grant.remaining += part - used
        assert charged <= hold.beyond
        self.ended[hold_id] = (how, at_ms)
        return paid, charged

    def expire_holds(self, until_ms: int) -> None:
        due = sorted(
            (hold.expires_ms, name) for name, hold in self.holds.items() if hold.expires_ms <= until_ms
        )
        for at_ms, name in due:
            self.end_hold(name, "hold_expired", NOTHING, at_ms)

    def begin(self, at_ms: int) -> None:
        """The first period, anchored now."""
        self.anchor_ms, self.months, self.start_ms, self.next_plan = at_ms, 1, at_ms, self.plan

    @property
    def end_ms(self) -> int:
        return months_after(self.anchor_ms, self.months)

    def settle(self, clock_ms: int) -> None:
        """Live through everything that time brings, instant by instant; then forget what has expired."""
        while (at_ms := self.next_ms()) <= clock_ms:
            self.expire_holds(at_ms)
            if not self.closed and self.end_ms == at_ms:
                self.state(at_ms, begun=False)
                self.plan = self.next_plan
                self.start_ms, self.months = at_ms, self.months + 1
                self.mind_the_offer(at_ms)
                self.look_for_empty(at_ms)
                self.monthly(at_ms)
            for grant in sorted(self.grants, key=lambda each: each.grant_id):
                if not grant.begun and grant.effective_ms == at_ms:
                    self.begin_grant(grant, at_ms)
        self.grants = [g for g in self.grants if g.expires_ms is None or g.expires_ms > clock_ms]

    def mind_the_offer(self, at_ms: int) -> None:
        """Without a price there is no overage: not for use, nor for holds."""
        if self.schedule.plans_at(at_ms).overage_prices[self.plan] is None:
            self.ceiling = None
            for hold in self.holds.values():
                hold.beyond = NOTHING

    def snapshot(self) -> Callable[[], None]:
        """Call what it returns to have the grants as they are now."""
        before = [(grant, grant.remaining, grant.empty_ms) for grant in self.grants]

        def undo() -> None:
            self.grants = [grant for grant, _, _ in before]
            for grant, remaining, empty_ms in before:
                grant.remaining, grant.empty_ms = remaining, empty_ms

        return undo

    def look_for_empty(self, at_ms: int) -> None:
        """What nobody can give back to any more is let go; what is empty by now is noted."""
        held = [grant for hold in self.holds.values() for grant, part in hold.taken if part]
        for grant in self.grants:
            empty = grant.begun and not grant.remaining and not any(grant is each for each in held)
            if not empty or not grant.counts_at(at_ms):
                grant.empty_ms = None
            elif grant.empty_ms is None:
                grant.empty_ms = at_ms
        self.grants = [g for g in self.grants if g.empty_ms is None or at_ms - g.empty_ms <= REMEMBERED_MS]

    def make_place(self, grants_max: int, at_ms: int) -> bool:
        """Whether one more grant may come; the longest empty one goes for it. If none may, nothing changes."""
        undo = self.snapshot()
        self.look_for_empty(at_ms)
        while len(self.grants) + self.topup.is_open >= grants_max:
            empty = [grant for grant in self.grants if grant.empty_ms is not None]
            if not empty:
                undo()
                return False
            first = min(empty, key=lambda each: (each.empty_ms, each.burns_before()))
            self.grants = [grant for grant in self.grants if grant is not first]
        return True

    def is_due(self, clock_ms: int) -> bool:
        """Whether time alone has changed something."""
        if self.topup.is_over(clock_ms):
            return not self.closed
        ends = [grant.expires_ms for grant in self.grants if grant.expires_ms is not None]
        return not self.closed and min([self.next_ms(), *ends]) <= clock_ms

    def next_ms(self) -> int:
        waiting = [grant.effective_ms for grant in self.grants if not grant.begun]
        ends = [] if self.closed else [self.end_ms]
        return min([2**62, *ends, *waiting, *[hold.expires_ms for hold in self.holds.values()]])

    def begin_grant(self, grant: AuditedGrant, at_ms: int) -> None:
        grant.begun = True
        self.granted += grant.amount
        self.rearm(at_ms)

    def state(self, at_ms: int, *, begun: bool) -> None:
        """Close the running period. At a boundary (`begun` False) what begins at this instant is the next one's."""
        closing = sum(
            (g.remaining for g in self.grants if g.counts_at(at_ms) and (begun or g.effective_ms < at_ms)),
            NOTHING,
        )
        closing += self.held
        # Half open: the plans of the boundary's own instant belong to the next period.
        price = self.schedule.plans_at(at_ms if begun else at_ms - 1).overage_prices[self.plan]
        sums = (self.opening, self.used_in_period, self.overage, closing)
        bills = [(self.statements[number], back) for number, back in sorted(self.returned.items())]
        returns = tuple((bill.end_ms, back, bill.price) for bill, back in bills)
        self.statements.append(AuditedStatement(self.plan, self.start_ms, at_ms, price, *sums, returns))
        self.returned = {}
        self.opening, self.used_in_period, self.overage = closing, NOTHING, NOTHING
        self.granted, self.voided, self.sent = NOTHING, NOTHING, set()
        self.taken_back_in_period = NOTHING
        self.topup.begin_period()

    def monthly(self, at_ms: int) -> None:
        amount = self.schedule.plans_at(at_ms).credits[self.plan]
        if amount:
            day = datetime.fromtimestamp(at_ms // 1000, UTC).date().isoformat()
            self.grant(f"monthly:{day}", "monthly", amount, now_ms=at_ms, expires_ms=self.end_ms)

    def usable(self, clock_ms: int) -> list[AuditedGrant]:
        return sorted((g for g in self.grants if g.counts_at(clock_ms)), key=AuditedGrant.burns_before)

    def left(self, clock_ms: int) -> Decimal:
        """In grants, beside what is held."""
        return sum((grant.remaining for grant in self.usable(clock_ms)), NOTHING)

    def available(self, clock_ms: int) -> Decimal:
        return self.left(clock_ms) + self.room()

    def balance(self, clock_ms: int) -> Decimal:
        """What is posted: available and held."""
        return self.left(clock_ms) + self.held

    def grant(
        self, grant_id: str, kind: str, amount: Decimal, *, now_ms: int, expires_ms: int | None,
        priority: int | None = None, effective_ms: int | None = None,
    ) -> None:  # fmt: skip
        rank = DEFAULT_PRIORITY[kind] if priority is None else priority
        begins = max(now_ms, effective_ms or now_ms)
        grant = AuditedGrant(grant_id, kind, rank, amount, begins, expires_ms, now_ms, amount)
        self.grants.append(grant)
        if begins <= now_ms:
            self.begin_grant(grant, now_ms)


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
    partition: int = 0
    offset: int = -1
    charges: AuditedCharges = field(default_factory=lambda: AuditedCharges(35 * 24 * 3_600_000))
    schedule: AuditedSchedule = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = AuditedSchedule([self.rules.plans])

    def judge(
        self,
        accepted_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        *,
        offset: int | None = None,
    ) -> Verdict:
        """The verdict on the next record; without its offset it is the one after the last."""
        self.offset = self.offset + 1 if offset is None else offset
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

    def _judge(self, claim: UsageClaim | CommandClaim | PublicationClaim | Malformed | None) -> Verdict:
        if claim is None:
            for account in [each for each in self.accounts.values() if each.is_due(self.clock_ms)]:
                account.settle(self.clock_ms)
                self._look_at_topup(account)
            return Verdict("tick")
        if isinstance(claim, Malformed):
            return Verdict("dead_letter", claim.reason)
        was_due = False
        if claim.account in self.accounts:
            was_due = self.accounts[claim.account].is_due(self.clock_ms)
            self.accounts[claim.account].settle(self.clock_ms)
        verdict = self._verdict(claim)
        if claim.account in self.accounts and (was_due or self._has_changed(claim, verdict)):
            self._look_at_topup(self.accounts[claim.account])
        return verdict

    def _has_changed(self, claim: UsageClaim | CommandClaim | PublicationClaim, verdict: Verdict) -> bool:
        """A denial for want of credits counts too: its back-off may be over."""
        if verdict.outcome in {"denied", "refused"}:
            again = isinstance(claim, CommandClaim) and claim.verb == "rerate"
            return verdict.reason in WANT_OF_CREDITS and not again
        return verdict.outcome == "accepted" or verdict.credits > 0

    def _look_at_topup(self, account: AuditedAccount) -> None:
        if not account.closed:
            account.topup.look(
                account.left(self.clock_ms), self._plans.packs[account.plan], self.clock_ms,
                lambda: account.make_place(self.rules.grants_max, self.clock_ms),
            )  # fmt: skip

    def _verdict(self, claim: UsageClaim | CommandClaim | PublicationClaim) -> Verdict:
        repeated = self._repeated(claim)
        if repeated is not None:
            return repeated
        if isinstance(claim, PublicationClaim):
            return self._publish(claim)
        return self._use(claim) if isinstance(claim, UsageClaim) else self._obey(claim)

    def _publish(self, claim: PublicationClaim) -> Verdict:
        outside = self._outside_window(claim)
        if outside:
            return Verdict("dead_letter", outside, claim.account, claim.event_id)
        reason = self.schedule.publish(claim.content, claim.effective_ms, self.clock_ms, self.rules.lead_ms)
        self._answered(claim, "" if reason == "duplicate" else reason, NOTHING)
        if reason == "duplicate":
            return Verdict("duplicate", "", claim.account, claim.event_id)
        return Verdict("refused" if reason else "accepted", reason, claim.account, claim.event_id)

    def _repeated(self, claim: UsageClaim | CommandClaim | PublicationClaim) -> Verdict | None:
        first = self._known(claim)
        if first is None:
            return None
        if first.fingerprint != claim.fingerprint:
            return Verdict("dead_letter", "conflict", claim.account, claim.event_id)
        if isinstance(claim, UsageClaim):
            self.charges.known[self.offset] = AuditedCharge(claim.account, self.clock_ms)
        account = self.accounts.get(claim.account)
        balance = account.balance(self.clock_ms) if account else NOTHING
        reason = first.reason or ("duplicate" if isinstance(claim, UsageClaim) else "")
        return Verdict("duplicate", reason, claim.account, claim.event_id, NOTHING, first.rated, balance)

    def _outside_window(self, claim: UsageClaim | CommandClaim | PublicationClaim) -> str:
        if claim.occurred_ms < self.clock_ms - self.rules.window_ms:
            return "too_late"
        return "too_early" if claim.occurred_ms > self.clock_ms + self.rules.ahead_ms else ""

    def _answered(
        self, claim: UsageClaim | CommandClaim | PublicationClaim, reason: str, rated: Decimal
    ) -> None:
        identity = (claim.account, claim.source, claim.event_id)
        self.answers[identity] = _FirstAnswer(claim.fingerprint, self.clock_ms, reason, rated)

    def _use(self, claim: UsageClaim) -> Verdict:
        account = self.accounts.get(claim.account)
        reason = "unknown_account" if account is None else self._outside_window(claim)
        if reason == "too_late" and claim.occurred_ms >= self.clock_ms - self.rules.late_ms:
            reason = "late"
        if account is None or reason:
            return Verdict("dead_letter", reason, claim.account, claim.event_id)
        price = self.schedule.book_at(self.clock_ms).price(claim.service, claim.data)
        if price is None:
            return Verdict("dead_letter", "unpriced", claim.account, claim.event_id)
        return self._charge_or_deny(claim, account, price * claim.images)

    def _charge_or_deny(self, claim: UsageClaim, account: AuditedAccount, cost: Decimal) -> Verdict:
        available = account.available(self.clock_ms)
        reason = self._denial(account, available) if account.closed or cost > available else ""
        self._answered(claim, reason, cost)
        if reason:
            self.charges.known[self.offset] = AuditedCharge(claim.account, self.clock_ms)
            if not account.closed:
                account.note_denial(self.clock_ms)
            posted = account.balance(self.clock_ms)
            return Verdict("denied", reason, claim.account, claim.event_id, NOTHING, cost, posted)
        paid, beyond = _burn(account.usable(self.clock_ms), cost)
        self._charge(claim, account, cost, paid, beyond)
        left = account.balance(self.clock_ms)
        return Verdict("metered", "", claim.account, claim.event_id, cost, cost, left)

    def _charge(
        self, usage: UsageClaim, account: AuditedAccount, cost: Decimal,
        paid: list[tuple[AuditedGrant, Decimal]], beyond: Decimal,
    ) -> None:  # fmt: skip
        period = len(account.statements)
        charge = AuditedCharge(usage.account, self.clock_ms, usage, cost, paid, beyond, period)
        self.charges.known[self.offset] = charge
        account.charge(cost, beyond, self.clock_ms)

    def _denial(self, account: AuditedAccount, available: Decimal) -> str:
        if account.closed:
            return "account_closed"
        if available > 0:
            return "insufficient_credits"
        return "plan_paused" if account.plan in self._plans.free else "credits_exhausted"

    @property
    def _plans(self) -> AuditedPlans:
        return self.schedule.plans_at(self.clock_ms)

    def _obey(self, claim: CommandClaim) -> Verdict:
        outside = self._outside_window(claim)
        if outside:
            return Verdict("dead_letter", outside, claim.account, claim.event_id)
        reason = self._carried_out(claim)
        self._answered(claim, reason, NOTHING)
        account = self.accounts.get(claim.account)
        balance = account.balance(self.clock_ms) if account else NOTHING
        outcome = "refused" if reason else "accepted"
        return Verdict(outcome, reason, claim.account, claim.event_id, balance_after=balance)

    def _carried_out(self, claim: CommandClaim) -> str:
        if claim.verb == "open":
            return self._open(claim)
        account = self.accounts.get(claim.account)
        if account is None:
            return "unknown_account"
        if claim.verb == "readmit":
            return self._readmit(claim, account)
        if account.closed:
            return "account_closed"
        carry_out = {
            "grant": self._grant, "void_grant": self._void, "change_plan": self._change_plan, "close": self._close,
            "configure": self._configure, "hold": self._hold, "capture": self._capture, "release": self._release,
            "reverse": self._correct, "rerate": self._correct, "topup_result": self._topup_result,
        }  # fmt: skip
        return carry_out[claim.verb](claim, account)

    def _open(self, claim: CommandClaim) -> str:
        plan = claim.data["plan"]
        if claim.account in self.accounts:
            return "account_exists"
        if plan not in self._plans.credits:
            return "unknown_plan"
        account = AuditedAccount(plan, self.clock_ms, self.schedule)
        self.accounts[claim.account] = account
        account.begin(self.clock_ms)
        account.monthly(self.clock_ms)
        return ""

    def _change_plan(self, claim: CommandClaim, account: AuditedAccount) -> str:
        new, credits_ = claim.data["plan"], self._plans.credits
        if new not in credits_:
            return "unknown_plan"
        if new == account.next_plan:
            return "plan_unchanged"
        more = credits_[new] - credits_[account.plan]
        cannot_bill = self._plans.overage_prices[new] is None and account.overage
        if more <= 0 or cannot_bill:
            account.next_plan = new
            return ""
        if not account.make_place(self.rules.grants_max, self.clock_ms):
            return "too_many_grants"
        was_free = account.plan in self._plans.free
        if was_free:
            account.state(self.clock_ms, begun=True)
        account.plan = account.next_plan = new
        if was_free:
            account.begin(self.clock_ms)
        account.mind_the_offer(self.clock_ms)
        account.grant("upgrade", "monthly", more, now_ms=self.clock_ms, expires_ms=account.end_ms)
        return ""

    def _close(self, claim: CommandClaim, account: AuditedAccount) -> str:
        del claim
        for name in list(account.holds):
            account.end_hold(name, "hold_released", NOTHING, self.clock_ms)
        account.grants = []
        account.state(self.clock_ms, begun=True)
        account.closed = True
        return ""

    def _ended(self, account: AuditedAccount, hold_id: str) -> str:
        how, at_ms = account.ended.get(hold_id, ("", 0))
        return how if at_ms >= self.clock_ms - self.rules.window_ms - self.rules.ahead_ms else ""

    def _hold(self, claim: CommandClaim, account: AuditedAccount) -> str:
        data, name = claim.data, claim.data["hold_id"]
        if name in account.holds or self._ended(account, name):
            return "hold_exists"
        if len(account.holds) >= self.rules.holds_max:
            return "too_many_holds"
        available, book = account.available(self.clock_ms), self.schedule.book_at(self.clock_ms)
        cost: Decimal = data["amount"]
        if "usage" in data:
            unit, images = book.price(data["usage"].service, data["usage"].data), data["usage"].images
            if unit is None:
                return "unpriced"
            fit = max(1, min(images, int(available // unit)))
            cost = unit * (fit if data["partial"] else images)
        if cost > available:
            account.note_denial(self.clock_ms)
            return self._denial(account, available)
        undo = account.snapshot()
        taken, beyond = _burn(account.usable(self.clock_ms), cost)
        shares = sum(len(hold.taken) + (hold.beyond > 0) for hold in account.holds.values())
        if shares + len(taken) + (beyond > 0) > self.rules.hold_shares_max:
            undo()
            return "too_many_holds"
        account.holds[name] = AuditedHold(taken, self.clock_ms + data["seconds"] * 1000, beyond, book)
        return ""

    def _capture(self, claim: CommandClaim, account: AuditedAccount) -> str:
        usage: UsageClaim = claim.data["usage"]
        hold = account.holds.get(claim.data["hold_id"])
        if hold is None:
            return self._ended(account, claim.data["hold_id"]) or "unknown_hold"
        if self._known(usage):
            return "usage_answered"
        outside = self._outside_window(usage)
        if outside:
            return outside
        price = hold.book.price(usage.service, usage.data)
        if price is None:
            return "unpriced"
        cost = price * usage.images
        if cost > hold.credits:
            return "exceeds_hold"
        paid, beyond = account.end_hold(claim.data["hold_id"], "hold_captured", cost, self.clock_ms)
        self._charge(usage, account, cost, paid, beyond)
        self._answered(usage, "", cost)
        return ""

    def _readmit(self, claim: CommandClaim, account: AuditedAccount) -> str:
        """Lateness counts from the first acceptance; what became of the usage itself is a record of its own."""
        usage: UsageClaim = claim.data["usage"]
        first, known = self._known(usage), claim.data["known"]
        if first is not None:
            return "usage_answered" if first.fingerprint == usage.fingerprint else "conflict"
        if known is not None:
            return "usage_answered" if known["same_content"] else "conflict"
        age_ms = claim.data["accepted_ms"] - usage.occurred_ms
        if age_ms > max(self.rules.late_ms, self.rules.window_ms):
            return "too_late"
        if age_ms < -self.rules.ahead_ms:
            return "too_early"
        price = self.schedule.book_at(self.clock_ms).price(usage.service, usage.data)
        if price is None:
            return "unpriced"
        self._charge_or_deny(usage, account, price * usage.images)
        return ""

    def _correct(self, claim: CommandClaim, account: AuditedAccount) -> str:
        """Take a charge back; or take all of it back and charge the usage anew, both or neither."""
        record = claim.data["record"]
        if record["partition"] != self.partition:
            return "record_mismatch"
        charge = self.charges.named(claim.account, record["event_offset"], self.clock_ms)
        if isinstance(charge, str):
            return charge
        left = charge.cost - charge.taken_back
        if not left or (claim.verb == "rerate" and charge.taken_back):
            return "already_reversed"
        amount = claim.data.get("amount") or left
        if amount > left:
            return "exceeds_charge"
        if not charge.taken_back and self.charges.is_full(claim.account, self.clock_ms):
            return "too_many_reversals"
        if claim.verb == "reverse":
            charge.take_back(amount, account, self.clock_ms)
            self.charges.known[self.offset] = AuditedCharge(claim.account, self.clock_ms)
            return ""
        return self._rerate(charge, claim.data["price_book"], account)

    def _rerate(self, charge: AuditedCharge, version: str, account: AuditedAccount) -> str:
        usage = charge.usage
        assert usage is not None
        known = [each for each in self.schedule.books if each.effective_ms <= self.clock_ms]
        books = [each for each in known if each.version == version]
        if not books:
            return "unknown_price_book"
        price = books[0].price(usage.service, usage.data)
        if price is None:
            return "unpriced"
        undo = account.snapshot()
        totals = (account.overage, account.used, account.taken_back_in_period, dict(account.returned))
        charge.take_back(charge.cost, account, self.clock_ms)
        cost, available = price * usage.images, account.available(self.clock_ms)
        if cost > available:
            charge.taken_back = NOTHING
            account.overage, account.used, account.taken_back_in_period, account.returned = totals
            undo()
            return self._denial(account, available)
        self._charge(usage, account, cost, *_burn(account.usable(self.clock_ms), cost))
        return ""

    def _release(self, claim: CommandClaim, account: AuditedAccount) -> str:
        if claim.data["hold_id"] not in account.holds:
            return self._ended(account, claim.data["hold_id"]) or "unknown_hold"
        account.end_hold(claim.data["hold_id"], "hold_released", NOTHING, self.clock_ms)
        return ""

    def _known(self, claim: UsageClaim | CommandClaim | PublicationClaim) -> _FirstAnswer | None:
        first = self.answers.get((claim.account, claim.source, claim.event_id))
        horizon = self.rules.window_ms + self.rules.ahead_ms
        return None if first is None or first.accepted_ms < self.clock_ms - horizon else first

    def _grant(self, claim: CommandClaim, account: AuditedAccount) -> str:
        data = claim.data
        if any(grant.grant_id == data["grant_id"] for grant in account.grants):
            return "grant_exists"
        expires = data.get("expires_ms")
        if data["kind"] == "prepaid" and "expires_at" not in data:
            expires = months_after(max(self.clock_ms, data.get("effective_ms") or 0), 12)
        ended = expires is not None and expires <= self.clock_ms
        undo = account.snapshot()
        if not account.make_place(self.rules.grants_max, self.clock_ms):
            return "too_many_grants"
        if ended:
            undo()
            return "grant_expired"
        account.grant(
            data["grant_id"], data["kind"], data["amount"], now_ms=self.clock_ms, expires_ms=expires,
            priority=data.get("priority"), effective_ms=data.get("effective_ms"),
        )  # fmt: skip
        return ""

    def _void(self, claim: CommandClaim, account: AuditedAccount) -> str:
        kept = [grant for grant in account.grants if grant.grant_id != claim.data["grant_id"]]
        if len(kept) == len(account.grants):
            return "unknown_grant"
        account.voided += sum(
            (g.remaining for g in account.grants if g.begun and not any(g is each for each in kept)), NOTHING
        )
        account.grants = kept
        return ""

    def _topup_result(self, claim: CommandClaim, account: AuditedAccount) -> str:
        order = claim.data["order"]
        given = account.topup.answer(order, claim.data["result"], self.clock_ms)
        if isinstance(given, str):
            return given
        if given:
            account.look_for_empty(self.clock_ms)
            ends = months_after(self.clock_ms, 12)
            account.grant(f"topup:{order}", "prepaid", given, now_ms=self.clock_ms, expires_ms=ends)
        return ""

    def _configure(self, claim: CommandClaim, account: AuditedAccount) -> str:
        data = claim.data
        if "overage_ceiling" in data:
            ceiling = data["overage_ceiling"]
            if ceiling is not None and self._plans.overage_prices[account.plan] is None:
                return "overage_not_offered"
        if "auto_topup" in data:
            packs = self._plans.packs[account.plan]
            if refused := account.topup.configure(data["auto_topup"], packs):
                return refused
        if "overage_ceiling" in data:
            ceiling = data["overage_ceiling"]
            account.ceiling = None if ceiling is None else Decimal(str(ceiling))
        if data.get("alert_thresholds") is not None:
            account.thresholds = tuple(data["alert_thresholds"])
        return ""


def _burn(
    grants: Iterable[AuditedGrant], cost: Decimal
) -> tuple[list[tuple[AuditedGrant, Decimal]], Decimal]:
    """Take `cost` in the order given: what each grant gave, and what is beyond them all."""
    taken: list[tuple[AuditedGrant, Decimal]] = []
    for grant in grants:
        part = min(grant.remaining, cost)
        grant.remaining -= part
        cost -= part
        if part:
            taken.append((grant, part))
    return taken, cost


def one_month_after(start_ms: int) -> int:
    """The same day and time of the next month, or that month's last day where it is shorter."""
    return months_after(start_ms, 1)


@lru_cache(maxsize=100_000)
def months_after(start_ms: int, months: int) -> int:
    """Day by day of the calendar: the same day `months` later, or the last one that month has."""
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms)
    first = start.replace(day=1)
    for _ in range(months):
        first = (first + timedelta(days=31)).replace(day=1)
    day = min(start.day, calendar.monthrange(first.year, first.month)[1])
    return start_ms + (first.replace(day=day) - start) // timedelta(milliseconds=1)


def rules_from_plan_file(path: Path, command_keys: Mapping[str, bytes]) -> AuditRules:
    """The rules with the plans of a published file and every other bound at its default."""
    return AuditRules(command_keys, plans_of(json.loads(path.read_text()), 0))


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
