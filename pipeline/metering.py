"""The core: a batch of one partition's log goes in, records and new state come out. No clock, no I/O, no Faust.

The order of the rules (design.md section 3): malformed → identity → account, window, price, policy. So a resend is
recognised whatever has changed since; an event that was denied has used up its identity, a dead letter has not.
Any record first lets time pass for its own account; a tick does so for accounts that nobody uses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar, assert_never

from pipeline import emit
from pipeline.domain.account import Account
from pipeline.domain.account_commands import obey
from pipeline.domain.alerts import Alert, after_denial, after_use
from pipeline.domain.answers import Captured, Obeyed, Refused
from pipeline.domain.commands import CaptureHold, Command, PlaceHold, ReleaseHold, Tick
from pipeline.domain.credits import NO_CREDITS, Credits
from pipeline.domain.hold_commands import Surroundings
from pipeline.domain.instants import Instant, format_instant
from pipeline.domain.ledger import Cause, denial, use
from pipeline.domain.plans import Plan
from pipeline.domain.price_book import PriceBook, book_in_force
from pipeline.domain.rating import Unrated, rate
from pipeline.domain.reasons import ACCEPTED_CODE, METERED_CODE, REASON_CODES, REASON_OF_CODE, Reason
from pipeline.domain.rules import Rules
from pipeline.domain.subscriptions import Booked, advance
from pipeline.domain.usage import AccountId, Fingerprint, Identity, UsageEvent, identity_of
from pipeline.emit import OutRecord, Place
from pipeline.state import (
    DIGEST_MODULUS,
    Cursor,
    FirstAnswer,
    VersionRef,
    decode_account,
    decode_answer,
    encode_account,
    encode_answer,
    next_boundary_ms,
    row_digest,
)
from pipeline.validate import Invalid, LogRecord, parse
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

__all__ = [
    "Batch",
    "Core",
    "Folded",
    "LogRecord",
    "OutRecord",
    "PartitionView",
    "PlanCatalog",
    "initial_cursor",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCatalog:
    """All plans of one version."""

    version: str
    sha256: str
    effective_from: Instant
    plans: Mapping[str, Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What the rules need beside the log: the same in all workers of a deployment."""

    rules: Rules
    price_books: Mapping[str, PriceBook]
    plan_catalogs: Mapping[str, PlanCatalog]
    command_keys: Mapping[str, bytes]
    """Key id → secret, to verify commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """What the shell lends the core of one partition's state. The core does not change it."""

    partition: int
    cursor: Cursor
    accounts: Mapping[bytes, bytes]
    identities: Mapping[bytes, bytes]
    due_accounts: Callable[[int, int], Sequence[bytes]]
    """(clock_ms, limit) → keys of accounts whose next boundary has come, in order of (boundary, key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What one batch made: to be written in one transaction, then applied to memory."""

    records: list[OutRecord]
    accounts: dict[bytes, bytes]
    """The table's rows that are new or changed."""
    identities: dict[bytes, bytes]
    cursor: Cursor
    dead_letters: int


def initial_cursor(core: Core, topic_id: str) -> Cursor:
    """The cursor of a partition that nobody has read: every price book and plan catalogue of this release."""
    return Cursor(
        next_offset=0,
        partition_seq=0,
        clock_ms=0,
        digest=0,
        topic_id=topic_id,
        price_books=_refs(core.price_books),
        plan_catalogs=_refs(core.plan_catalogs),
    )


def _refs(published: Mapping[str, PriceBook] | Mapping[str, PlanCatalog]) -> tuple[VersionRef, ...]:
    refs = [
        VersionRef(version=each.version, sha256=each.sha256, effective_from=each.effective_from)
        for each in published.values()
    ]
    return tuple(sorted(refs, key=lambda ref: ref.effective_from))


class Batch:
    """One batch of one partition: `feed` it records in slices, `finish` it once.

    Slices, because the shell looks at its clock between them; the result does not depend on how they are cut.
    """

    def __init__(self, core: Core, view: PartitionView) -> None:
        """Raises ValueError when the partition's schedule names a price book or plans that we do not have."""
        self._core = core
        self._view = view
        self._books = [_published(core.price_books, ref, "price book") for ref in view.cursor.price_books]
        self._catalogs = [
            _published(core.plan_catalogs, ref, "plan catalogue") for ref in view.cursor.plan_catalogs
        ]
        self._clock = view.cursor.clock_ms
        self._clock_text = format_instant(self._clock)
        self._seq = view.cursor.partition_seq
        self._next_offset = view.cursor.next_offset
        self._records: list[OutRecord] = []
        self._accounts: dict[bytes, Account] = {}
        self._places: dict[bytes, Place] = {}
        self._identities: dict[bytes, bytes] = {}
        self._dead_letters = 0

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Fold records, in the order of the log."""
        rules, keys, partition = self._core.rules, self._core.command_keys, self._view.partition
        for record in records:
            assert record.offset >= self._next_offset, (record.offset, self._next_offset)
            self._next_offset = record.offset + 1
            self._seq += 1
            if record.timestamp > self._clock:
                self._clock = record.timestamp
                self._clock_text = format_instant(self._clock)
            place = Place(partition, record.offset, self._seq, self._clock, self._clock_text)
            parsed = parse(record, event_bytes_max=rules.event_bytes_max, command_keys=keys)
            match parsed:
                case UsageEvent():
                    self._usage(record, parsed, place)
                case Command():
                    self._command(record, parsed, place)
                case Tick():
                    self._tick(place)
                case Invalid():
                    self._dead_letter(record, parsed, place)
                case _:
                    assert_never(parsed)

    def finish(self) -> Folded:
        """Everything the batch made, with the cursor that says so."""
        rows = {key: encode_account(account) for key, account in self._accounts.items()}
        before, digest = self._view.accounts, self._view.cursor.digest
        for key, row in rows.items():
            digest += row_digest(key, row)
            old = before.get(key)
            if old is not None:
                digest -= row_digest(key, old)
            self._records.append(emit.account_balance(self._accounts[key], self._places[key]))
        cursor = replace(
            self._view.cursor,
            next_offset=self._next_offset,
            partition_seq=self._seq,
            clock_ms=self._clock,
            digest=digest % DIGEST_MODULUS,
        )
        return Folded(
            records=self._records,
            accounts=rows,
            identities=self._identities,
            cursor=cursor,
            dead_letters=self._dead_letters,
        )

    # Usage.

    def _usage(self, record: LogRecord, event: UsageEvent, place: Place) -> None:
        key = record.key
        assert key is not None, "validation lets no event through whose key is not its subject"
        account = self._account_now(key, place)
        identity = identity_of(key, event.source, event.event_id)
        first = self._first_answer(identity, place)
        if first is not None:
            self._usage_again(record, event, first, account, place)
            return
        if account is None:
            detail = f"expected an open account, got {event.account_id!r}"
            self._dead_letter_of(record, event, Reason.UNKNOWN_ACCOUNT, detail, "/subject", place)
            return
        late = self._outside_window(event.occurred_at, place.accepted_at)
        if late is not None:
            self._dead_letter_of(record, event, *late, "/time", place)
            return
        rated = rate(event, book_in_force(self._books, place.accepted_at))
        if isinstance(rated, Unrated):
            self._dead_letter_of(record, event, Reason.UNPRICED, rated.detail, "/data", place)
            return
        plan = self._plans(place.accepted_at)[account.subscription.plan_id]
        reason = denial(account, rated.credits, plan)
        if reason is not None:
            self._records.append(emit.denied(event, rated, reason, account.posted, place))
            self._remember(identity, event.fingerprint, REASON_CODES[reason], rated.credits, place)
            self._denied(key, account, reason, place)
            return
        entry = None
        if rated.credits:
            cause = Cause(event.source, event.event_id, place.partition, place.offset)
            account, entries = use(account, rated.credits, cause, Instant(place.accepted_at))
            entry = entries[-1]
            self._records += [emit.ledger_entry(each, place) for each in entries]
            account, alert = after_use(account, plan)
            self._alert(key, account, alert, place)
            self._keep(key, account, place)
        self._records.append(emit.metered(event, rated, entry, account.posted, place))
        self._remember(identity, event.fingerprint, METERED_CODE, rated.credits, place)

    def _denied(self, key: bytes, account: Account, reason: Reason, place: Place) -> None:
        if reason in WANT_OF_CREDITS:
            plan = self._plans(place.accepted_at)[account.subscription.plan_id]
            self._alert(key, *after_denial(account, plan), place)

    def _alert(self, key: bytes, account: Account, alert: Alert | None, place: Place) -> None:
        if alert is not None:
            self._records.append(emit.account_alert(alert, place))
            self._keep(key, account, place)

    def _usage_again(
        self, record: LogRecord, event: UsageEvent, first: FirstAnswer, account: Account | None, place: Place
    ) -> None:
        if first.fingerprint != event.fingerprint:
            detail = f"expected the content of the event at offset {first.offset}, which has the same source and id"
            self._dead_letter_of(record, event, Reason.CONFLICT, detail, "/id", place)
            return
        balance = NO_CREDITS if account is None else account.posted
        reason = REASON_OF_CODE.get(first.code)
        self._records.append(emit.duplicate(event, first, reason or "", balance, place))

    # Commands.

    def _command(self, record: LogRecord, command: Command, place: Place) -> None:
        key = command.account_id.encode()
        account = self._account_now(key, place)
        identity = identity_of(key, command.source, command.command_id)
        first = self._first_answer(identity, place)
        if first is not None:
            self._command_again(record, command, first, account, place)
            return
        late = self._outside_window(command.occurred_at, place.accepted_at)
        if late is not None:
            self._dead_letter_of(record, command, *late, "/time", place)
            return
        answer = obey(command, account, self._around(command, key, place))
        amount = NO_CREDITS
        match answer:
            case Obeyed(account, booked, hold, captured):
                self._book(booked, key, place)
                self._keep(key, account, place)
                code = ACCEPTED_CODE
                amount = NO_CREDITS if hold is None else hold.credits
                if captured is not None:
                    self._captured(key, captured, account, place)
            case Refused(reason, _, required):
                code = REASON_CODES[reason]
                if required is not None and account is not None:
                    self._denied(key, account, reason, place)
            case _:
                assert_never(answer)
        self._remember(identity, command.fingerprint, code, amount, place)
        self._records.append(emit.command_result(command, answer, account, place))

    def _around(self, command: Command, key: bytes, place: Place) -> Surroundings:
        """What the command is judged by; of holds also what the index knows of them and of their usage."""
        at, body = place.accepted_at, command.body
        hold_end, usage_fault = None, None
        if isinstance(body, PlaceHold | CaptureHold | ReleaseHold):
            ended = self._first_answer(_hold_identity(key, body.hold_id), place)
            hold_end = None if ended is None else REASON_OF_CODE[ended.code]
        if isinstance(body, CaptureHold):
            usage_fault = self._usage_fault(key, body.usage, place)
        return Surroundings(
            plans=self._plans(at),
            books=self._books,
            at=Instant(at),
            cause=Cause(command.source, command.command_id, place.partition, place.offset),
            hold_end=hold_end,
            usage_fault=usage_fault,
        )

    def _usage_fault(self, key: bytes, usage: UsageEvent, place: Place) -> Refused | None:
        """Captured usage goes through the same deduplication and the same window as any other."""
        first = self._first_answer(identity_of(key, usage.source, usage.event_id), place)
        if first is not None:
            return Refused(Reason.USAGE_ANSWERED, f"this usage event was answered at offset {first.offset}")
        late = self._outside_window(usage.occurred_at, place.accepted_at)
        return None if late is None else Refused(*late)

    def _captured(self, key: bytes, captured: Captured, account: Account, place: Place) -> None:
        event, rated = captured.event, captured.rated
        self._records.append(emit.metered(event, rated, captured.entry, account.posted, place))
        identity = identity_of(key, event.source, event.event_id)
        self._remember(identity, event.fingerprint, METERED_CODE, rated.credits, place)

    def _command_again(
        self, record: LogRecord, command: Command, first: FirstAnswer, account: Account | None, place: Place
    ) -> None:
        if first.fingerprint != command.fingerprint:
            detail = f"expected the content of the command at offset {first.offset}, which has the same source and id"
            self._dead_letter_of(record, command, Reason.CONFLICT, detail, "/id", place)
            return
        self._records.append(emit.command_repeated(command, first, account, place))

    # Time.

    def _tick(self, place: Place) -> None:
        """Let time pass for accounts whose boundary has come, a bounded number for each tick.

        The view knows the rows as they were before this batch, so what the batch has touched is looked at here.
        Order and bound depend on the log alone, not on how it is cut into batches.
        """
        most, clock = self._core.rules.boundary_accounts_max, self._clock
        touched = [
            (each.next_boundary, key) for key, each in self._accounts.items() if each.next_boundary <= clock
        ]
        resting = [
            (next_boundary_ms(self._view.accounts[key]), key)
            for key in self._view.due_accounts(clock, most + len(self._accounts))
            if key not in self._accounts
        ]
        for _, key in sorted(touched + resting)[:most]:
            self._account_now(key, place)

    def _account_now(self, key: bytes, place: Place) -> Account | None:
        """The account of a key with all that time has changed until now, or None if it is not open."""
        account = self._accounts.get(key)
        if account is None:
            row = self._view.accounts.get(key)
            if row is None:
                return None
            account = decode_account(AccountId(key.decode()), row)
        if account.next_boundary > place.accepted_at:
            return account
        cause = Cause("", "", place.partition, place.offset)
        account, booked = advance(account, place.accepted_at, self._plans(place.accepted_at), cause)
        self._book(booked, key, place)
        self._keep(key, account, place)
        return account

    # What both share.

    def _first_answer(self, identity: Identity, place: Place) -> FirstAnswer | None:
        packed = self._identities.get(identity) or self._view.identities.get(identity)
        if packed is None:
            return None
        first = decode_answer(packed)
        # The index forgets whole hours, some time after; the rule must not depend on when it did.
        return first if first.accepted_at >= place.accepted_at - self._core.rules.identity_ms else None

    def _remember(
        self, identity: Identity, fingerprint: Fingerprint, code: int, amount: Credits, place: Place
    ) -> None:
        self._identities[identity] = encode_answer(fingerprint, code, amount, place.offset, place.accepted_at)

    def _outside_window(self, occurred_at: int, accepted_at: int) -> tuple[Reason, str] | None:
        rules = self._core.rules
        if occurred_at < accepted_at - rules.hot_window_ms:
            hours = rules.hot_window_ms // 3_600_000
            return (
                Reason.TOO_LATE,
                f"expected a time at most {hours} hours before {format_instant(accepted_at)}",
            )
        if occurred_at > accepted_at + rules.ahead_ms:
            seconds = rules.ahead_ms // 1000
            return (
                Reason.TOO_EARLY,
                f"expected a time at most {seconds} s after {format_instant(accepted_at)}",
            )
        return None

    def _plans(self, at: int) -> Mapping[str, Plan]:
        for catalog in reversed(self._catalogs):
            if catalog.effective_from <= at:
                return catalog.plans
        raise AssertionError("the first plan catalogue starts with the epoch")

    def _keep(self, key: bytes, account: Account, place: Place) -> None:
        self._accounts[key] = account
        self._places[key] = place

    def _book(self, booked: Booked, key: bytes, place: Place) -> None:
        """Say what was posted; remember how holds ended, so that a late capture is told why."""
        for ended in booked.ended_holds:
            # Known from the instant it ended, not from when that was noticed: a tick must make no difference.
            known = place._replace(accepted_at=ended.at)
            identity = _hold_identity(key, ended.hold_id)
            self._remember(identity, NO_FINGERPRINT, REASON_CODES[ended.end], ended.charged, known)
        self._records += [emit.ledger_entry(entry, place) for entry in booked.entries]
        self._records += [emit.account_statement(statement, place) for statement in booked.statements]
        self._records += [emit.account_alert(alert, place) for alert in booked.alerts]

    def _dead_letter(self, record: LogRecord, invalid: Invalid, place: Place) -> None:
        self._dead_letters += 1
        self._records.append(emit.dead_letter(record, invalid, place))

    def _dead_letter_of(
        self,
        record: LogRecord,
        event: UsageEvent | Command,
        reason: Reason,
        detail: str,
        pointer: str,
        place: Place,
    ) -> None:
        match event:
            case UsageEvent():
                event_id, kind = event.event_id, f"{USAGE_TYPE_PREFIX}{event.service}{TYPE_VERSION_SUFFIX}"
            case Command():
                event_id, kind = event.command_id, event.type
            case _:
                assert_never(event)
        self._dead_letter(record, Invalid(reason, detail, pointer, event_id, event.source, kind), place)


WANT_OF_CREDITS: Final = frozenset(
    {Reason.PLAN_PAUSED, Reason.CREDITS_EXHAUSTED, Reason.INSUFFICIENT_CREDITS}
)
NO_FINGERPRINT: Final = Fingerprint(bytes(8))


def _hold_identity(key: bytes, hold_id: str) -> Identity:
    """Apart from every event's: no source has a control character."""
    return identity_of(key, "\x01hold", hold_id)


Published = TypeVar("Published", PriceBook, PlanCatalog)


def _published(known: Mapping[str, Published], ref: VersionRef, what: str) -> Published:
    """The content that a partition's schedule names. Another content under the same version is never used."""
    found = known.get(ref.version)
    if found is None or found.sha256 != ref.sha256:
        came = "none" if found is None else f"one with SHA-256 {found.sha256}"
        raise ValueError(
            f"expected {what} {ref.version!r} with SHA-256 {ref.sha256}, this release has {came}"
        )
    return found
