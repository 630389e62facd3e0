"""What if the prices or plans had been others? Folds the recorded log twice, partition by partition, with the stream's
own core: as it was, and with another version in one place of the schedule. Nothing is written anywhere.

The run as recorded must end where the live table stands, to its digest: so it is seen that the difference is the
prices' and nothing else's. Memory holds one partition at a time: twice its accounts and the identities of its window.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import orjson

from pipeline.bootstrap import load_core
from pipeline.boundaries import Boundaries
from pipeline.client.schedule import DeploymentReader
from pipeline.domain.credits import NO_CREDITS, Credits, parse_credits
from pipeline.domain.instants import HOUR_MS
from pipeline.domain.plans import plans_in_force
from pipeline.domain.usage import AccountId
from pipeline.emit import OutRecord
from pipeline.evidence import wanted
from pipeline.kafka import Logged, logged
from pipeline.metering import Batch, Core, Folded, LogRecord, PartitionView, initial_cursor
from pipeline.published import plan_catalog
from pipeline.settings import Settings
from pipeline.state import (
    decode_account,
    identity_accepted_at_ms,
    next_boundary_ms,
    plan_catalog_key,
)
from pipeline.what_if_schedule import Change, Live, as_begun, changed
from schemas.topics import (
    ACCOUNT_ALERTS,
    ACCOUNT_EVENTS,
    ACCOUNT_STATEMENTS,
    COMMAND_RESULTS,
    LEDGER_ENTRIES,
    METERED_RECORDS,
)

SLICE_RECORDS: Final = 5000
"""Folded at once, in each of the two runs."""


class LogCutError(Exception):
    """The log does not begin at its beginning any more: nobody can say what stood there."""


@dataclass(slots=True)
class Tally:
    """What became of one account in one run."""

    used: Credits = NO_CREDITS
    denied: int = 0
    """Usage and holds for which there were not enough credits."""
    limit_at: str | None = None
    """When that first happened."""
    overage: Credits = NO_CREDITS
    """Used beyond all grants, less what was taken back of it."""
    money: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """What that costs, by currency, exact: as statements bill it, and the running period by the plan in force."""

    def owe(self, amount: Decimal, currency: str) -> None:
        """Add to what overage costs; below zero what is given back."""
        if amount:
            self.money[currency] = self.money.get(currency, Decimal(0)) + amount


@dataclass(frozen=True, slots=True)
class Comparison:
    account_id: str
    before: Tally
    after: Tally

    @property
    def difference(self) -> Credits:
        return Credits(self.after.used - self.before.used)

    @property
    def money_difference(self) -> dict[str, Decimal]:
        return money_difference(self.before, self.after)


def money_difference(before: Tally, after: Tally) -> dict[str, Decimal]:
    """How much more overage would cost, by currency; empty where nothing differs."""
    found = {
        currency: after.money.get(currency, Decimal(0)) - before.money.get(currency, Decimal(0))
        for currency in sorted(before.money.keys() | after.money.keys())
    }
    return {currency: amount for currency, amount in found.items() if amount}


@dataclass(slots=True, kw_only=True)
class Result:
    """Of all partitions. `changed` has the accounts for which anything differs."""

    records: int = 0
    accounts: int = 0
    before: Tally = field(default_factory=Tally)
    after: Tally = field(default_factory=Tally)
    changed: list[Comparison] = field(default_factory=list[Comparison])
    unlike_the_table: list[int] = field(default_factory=list[int])
    """Partitions in which the run as recorded did not end as the live table stands."""


def what_if(
    settings: Settings, changes: Sequence[Change], *, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Compare both runs up to where the live table stands. Raises LogCutError and NotComparableError."""
    core, result = load_core(settings), Result()
    reader = DeploymentReader(settings)
    try:
        for partition in range(settings.kafka.partitions):
            cursor, published = reader.table(partition)
            if cursor is None:
                continue
            low, _ = reader.bounds(ACCOUNT_EVENTS, partition)
            if low > 0:
                raise LogCutError(f"partition {partition} of {ACCOUNT_EVENTS} begins at offset {low}")
            progress(f"partition {partition}: {cursor.partition_seq} records")
            live = Live(partition, cursor, published)
            corrected = {place.event_offset for place in wanted(_log(reader, live), core)}
            compare(core, live, _log(reader, live), changes, result, corrected=corrected)
    finally:
        reader.close()
    result.changed.sort(key=lambda each: (-abs(each.difference), each.account_id))
    return result


def compare(
    core: Core,
    live: Live,
    log: Iterable[LogRecord],
    changes: Sequence[Change],
    result: Result,
    *,
    corrected: Collection[int] = (),
) -> None:
    """Fold the log of one partition in both runs and add what came of it. Raises NotComparableError.

    `corrected`: offsets of usage that commands further on correct; each run remembers what it said of them.
    """
    recorded = _Run(replace(core, bundled=as_begun(live)), live.partition, corrected)
    other = _Run(replace(core, bundled=changed(live, changes)), live.partition, corrected)
    rest = iter(log)
    while records := list(islice(rest, SLICE_RECORDS)):
        recorded.fold(records)
        other.fold(records)
    ended, stands = recorded.cursor, live.cursor
    if (ended.digest, ended.partition_seq) != (stands.digest, stands.partition_seq):
        result.unlike_the_table.append(live.partition)
    recorded.bill_running_periods()
    other.bill_running_periods()
    _add(result, ended.partition_seq, recorded, other)


def _add(result: Result, records: int, recorded: "_Run", other: "_Run") -> None:
    result.records += records
    result.accounts += len(recorded.accounts)
    for total, run in ((result.before, recorded), (result.after, other)):
        total.used = Credits(total.used + sum(each.used for each in run.tallies.values()))
        total.denied += sum(each.denied for each in run.tallies.values())
        total.overage = Credits(total.overage + sum(each.overage for each in run.tallies.values()))
        for currency, amount in [each for tally in run.tallies.values() for each in tally.money.items()]:
            total.owe(amount, currency)
        limits = [each.limit_at for each in (total, *run.tallies.values()) if each.limit_at is not None]
        total.limit_at = min(limits, default=None)
    for account in recorded.tallies.keys() | other.tallies.keys():
        before, after = recorded.tallies.get(account, Tally()), other.tallies.get(account, Tally())
        if before != after:
            result.changed.append(Comparison(account, before, after))


def _log(reader: DeploymentReader, live: Live) -> Iterator[Logged]:
    messages = reader.messages(ACCOUNT_EVENTS, live.partition, 0, live.cursor.next_offset)
    return map(logged, messages)


class _Run:
    """One partition in memory, and what became of its accounts."""

    def __init__(self, core: Core, partition: int, corrected: Collection[int]) -> None:
        self._core = core
        self._partition = partition
        self._corrected = corrected
        self._past: dict[int, bytes] = {}
        self.cursor = initial_cursor(core, "what-if")
        self._published: dict[bytes, bytes] = {}
        self.accounts: dict[bytes, bytes] = {}
        self._identities = _Identities(core.rules.identity_ms)
        self._boundaries = Boundaries()
        self.tallies: dict[str, Tally] = {}

    def fold(self, records: Iterable[LogRecord]) -> None:
        view = PartitionView(
            partition=self._partition,
            cursor=self.cursor,
            published=self._published,
            accounts=self.accounts,
            identities=self._identities.answers,
            due_accounts=self._boundaries.due,
        )
        batch = Batch(self._core, view)
        batch.feed(records, self._past)
        folded = batch.finish()
        self._apply(folded)
        for record in folded.records:
            self._count(record)

    def _apply(self, folded: Folded) -> None:
        self._published.update(folded.published)
        self.accounts.update(folded.accounts)
        self._boundaries.update({key: next_boundary_ms(row) for key, row in folded.accounts.items()})
        self._identities.add(folded.identities, folded.cursor.clock_ms)
        self.cursor = folded.cursor

    def bill_running_periods(self) -> None:
        """At the end: overage that no statement has billed yet, at the price of the plans in force."""
        keys = [plan_catalog_key(ref.version) for ref in self.cursor.plan_catalogs]
        plans = plans_in_force([plan_catalog(self._published[key]) for key in keys], self.cursor.clock_ms)
        for name, tally in self.tallies.items():
            if not tally.overage and not tally.money:
                continue
            account = decode_account(AccountId(name), self.accounts[name.encode()])
            plan = plans[account.subscription.plan_id]
            tally.owe(_in_money(account.totals.overage, plan.overage_price), plan.currency)
            for billed in account.billed:
                price = None if billed.price is None else Decimal(billed.price)
                tally.owe(-_in_money(billed.returned, price), billed.currency)

    def _count(self, record: OutRecord) -> None:
        if record.topic not in _COUNTED or (record.topic == LEDGER_ENTRIES and _OVERAGE not in record.value):
            return  # Most entries are of no interest; reading each would cost as much as all the rest.
        said = orjson.loads(record.value)
        tally = self.tallies.get(said["account_id"])
        if tally is None:
            tally = self.tallies[said["account_id"]] = Tally()
        if record.topic == METERED_RECORDS:
            tally.used = Credits(tally.used + parse_credits(said["credits"]))
            tally.denied += said["outcome"] == "denied"
            if said["offset"] in self._corrected:
                self._past[said["offset"]] = record.value
        elif record.topic == COMMAND_RESULTS:
            tally.denied += said["shortage"] is not None
        elif record.topic == ACCOUNT_ALERTS:
            if said["kind"] == "limit_reached" and tally.limit_at is None:
                tally.limit_at = said["accepted_at"]
        else:
            _count_overage(tally, said)


def _count_overage(tally: Tally, said: dict[str, Any]) -> None:
    """Of an entry the credits, of a statement what they cost."""
    if "entry_seq" in said:
        tally.overage = Credits(tally.overage + parse_credits(said["credits"]))
        return
    tally.owe(Decimal(said["overage_amount"]), said["currency"])
    for each in said["overage_returns"]:
        tally.owe(-Decimal(each["amount"]), each["currency"])


_COUNTED: Final = frozenset(
    {METERED_RECORDS, COMMAND_RESULTS, ACCOUNT_ALERTS, LEDGER_ENTRIES, ACCOUNT_STATEMENTS}
)
_OVERAGE: Final = b'"kind":"overage"'


def _in_money(amount: Credits, price: Decimal | None) -> Decimal:
    return Decimal(0) if price is None else Decimal(amount).scaleb(-6) * price


class _Identities:
    """What has been answered, for as long as it counts: whole hours are forgotten some time after."""

    def __init__(self, keep_ms: int) -> None:
        self.answers: dict[bytes, bytes] = {}
        self._keep_ms = keep_ms
        self._hours: deque[tuple[int, list[bytes]]] = deque()

    def add(self, identities: Mapping[bytes, bytes], clock_ms: int) -> None:
        hour = clock_ms // HOUR_MS
        if not self._hours or self._hours[-1][0] < hour:
            self._hours.append((hour, []))
        self._hours[-1][1].extend(identities)
        self.answers.update(identities)
        horizon_ms = clock_ms - self._keep_ms
        while (self._hours[0][0] + 1) * HOUR_MS <= horizon_ms:
            for key in self._hours.popleft()[1]:
                answer = self.answers.get(key)
                if answer is not None and identity_accepted_at_ms(answer) < horizon_ms:
                    del self.answers[key]
