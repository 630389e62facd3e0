"""The state of one batch while it is folded: what the rules for usage, commands and time have in common.

It starts from the view that the shell lends, and holds whatever is new: accounts, identities, records to say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar, assert_never

from pipeline import emit
from pipeline.core import Core, PartitionView, reference
from pipeline.domain.account import Account
from pipeline.domain.alerts import Alert, after_denial
from pipeline.domain.commands import Command, Publication
from pipeline.domain.credits import Credits
from pipeline.domain.instants import HOUR_MS, SECOND_MS, Instant, format_instant
from pipeline.domain.ledger import Cause
from pipeline.domain.plans import Plan, PlanCatalog, plans_in_force
from pipeline.domain.price_book import PriceBook
from pipeline.domain.reasons import REASON_CODES, Reason
from pipeline.domain.subscriptions import Booked, advance
from pipeline.domain.topup import considered
from pipeline.domain.usage import AccountId, Fingerprint, Identity, UsageEvent, identity_of
from pipeline.emit import OutRecord, Place
from pipeline.evidence import NO_EVIDENCE, Evidence
from pipeline.published import plan_catalog, price_book
from pipeline.state import (
    FirstAnswer,
    VersionRef,
    decode_account,
    decode_answer,
    encode_answer,
    plan_catalog_key,
    price_book_key,
)
from pipeline.validate import Invalid, LogRecord
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

WANT_OF_CREDITS: Final = frozenset(
    {Reason.PLAN_PAUSED, Reason.CREDITS_EXHAUSTED, Reason.INSUFFICIENT_CREDITS}
)
NO_FINGERPRINT: Final = Fingerprint(bytes(8))
Version = TypeVar("Version", PriceBook, PlanCatalog)


class Work:
    """What one batch of one partition has come to so far."""

    def __init__(self, core: Core, view: PartitionView) -> None:
        """Raises ValueError when the partition's schedule names content that it has not got."""
        self.core = core
        self.view = view
        self.cursor = view.cursor
        """Its schedules grow in the batch; the rest is said when it is finished."""
        self.published: dict[bytes, bytes] = {}
        self.books = self._read(self.cursor.price_books, price_book_key, price_book)
        self.catalogs = self._read(self.cursor.plan_catalogs, plan_catalog_key, plan_catalog)
        self.clock = view.cursor.clock_ms
        self.clock_text = format_instant(self.clock)
        self.seq = view.cursor.partition_seq
        self.next_offset = view.cursor.next_offset
        self.records: list[OutRecord] = []
        self.accounts: dict[bytes, Account] = {}
        self.places: dict[bytes, Place] = {}
        self.identities: dict[bytes, bytes] = {}
        self.dead_letters = 0
        self.evidence: Evidence = NO_EVIDENCE

    def _read(
        self, refs: Sequence[VersionRef], key_of: Callable[[str], bytes], read: Callable[[bytes], Version]
    ) -> list[Version]:
        """The content of a schedule. What came with the release becomes a row of the partition's table at once, so
        that the next release need not bring it."""
        found: list[Version] = []
        for ref in refs:
            key = key_of(ref.version)
            content = self.view.published.get(key)
            if content is None and (content := self.core.bundled.get(key)) is not None:
                self.published[key] = content
            version = None if content is None else read(content)
            if version is None or version.sha256 != ref.sha256:
                came = "none" if version is None else f"one with SHA-256 {version.sha256}"
                raise ValueError(f"expected the row {key.decode()!r} with SHA-256 {ref.sha256}, got {came}")
            found.append(version)
        return found

    def publish(self, publication: Publication, place: Place) -> None:
        """Add a version to its schedule, from its `effective_from` on."""
        version, ref = publication.published, reference(publication.published, place.offset)
        match version:
            case PriceBook():
                self.books.append(version)
                self.published[price_book_key(version.version)] = publication.content
                self.cursor = replace(self.cursor, price_books=(*self.cursor.price_books, ref))
            case PlanCatalog():
                self.catalogs.append(version)
                self.published[plan_catalog_key(version.version)] = publication.content
                self.cursor = replace(self.cursor, plan_catalogs=(*self.cursor.plan_catalogs, ref))
            case _:
                assert_never(version)

    def next_place(self, record: LogRecord) -> Place:
        """Take the next record of the log: its place, and the partition's clock, which never goes back."""
        assert record.offset >= self.next_offset, (record.offset, self.next_offset)
        self.next_offset = record.offset + 1
        self.seq += 1
        if record.timestamp > self.clock:
            self.clock = record.timestamp
            self.clock_text = format_instant(self.clock)
        return Place(self.view.partition, record.offset, self.seq, self.clock, self.clock_text)

    def account_now(self, key: bytes, place: Place) -> Account | None:
        """The account of a key with all that time has changed until now, or None if it is not open."""
        account = self.accounts.get(key)
        if account is None:
            row = self.view.accounts.get(key)
            if row is None:
                return None
            account = decode_account(AccountId(key.decode()), row)
        if account.next_boundary > place.accepted_at:
            return account
        cause = Cause("", "", place.partition, place.offset)
        account, booked = advance(account, place.accepted_at, self.catalogs, cause)
        self.book(booked, key, place)
        self.keep(key, account, place)
        return account

    def first_answer(self, identity: Identity, place: Place) -> FirstAnswer | None:
        packed = self.identities.get(identity) or self.view.identities.get(identity)
        if packed is None:
            return None
        first = decode_answer(packed)
        # The index forgets whole hours, some time after; the rule must not depend on when it did.
        return first if first.accepted_at >= place.accepted_at - self.core.rules.identity_ms else None

    def remember(
        self, identity: Identity, fingerprint: Fingerprint, code: int, amount: Credits, place: Place
    ) -> None:
        self.identities[identity] = encode_answer(fingerprint, code, amount, place.offset, place.accepted_at)

    def outside_window(self, occurred_at: int, accepted_at: int) -> tuple[Reason, str] | None:
        rules = self.core.rules
        if occurred_at < accepted_at - rules.hot_window_ms:
            hours = rules.hot_window_ms // HOUR_MS
            return (
                Reason.TOO_LATE,
                f"expected a time at most {hours} hours before {format_instant(accepted_at)}",
            )
        if occurred_at > accepted_at + rules.ahead_ms:
            seconds = rules.ahead_ms // SECOND_MS
            return (
                Reason.TOO_EARLY,
                f"expected a time at most {seconds} s after {format_instant(accepted_at)}",
            )
        return None

    def is_late(self, occurred_at: int, accepted_at: int) -> bool:
        """Whether usage outside the hot window is not too late for the late lane."""
        return occurred_at >= accepted_at - self.core.rules.late_ms

    def plans_at(self, at: int) -> Mapping[str, Plan]:
        return plans_in_force(self.catalogs, at)

    def keep(self, key: bytes, account: Account, place: Place) -> None:
        self.accounts[key] = account
        self.places[key] = place

    def consider_topup(self, key: bytes, place: Place) -> None:
        """After each record: whether the account that it has changed is to buy a pack. At the end, so that an account
        is judged once however often the rules have touched it."""
        if self.places.get(key) is not place:
            return  # Not changed by this record; what others of the batch did must not matter.
        account = self.accounts[key]
        if account.policy.topup is None:
            return
        plan = self.plans_at(place.accepted_at)[account.subscription.plan_id]
        account, order = considered(account, plan, Instant(place.accepted_at))
        self.accounts[key] = account
        if order is not None:
            self.records.append(emit.topup_order(order, place))

    def book(self, booked: Booked, key: bytes, place: Place) -> None:
        """Say what was posted; remember how holds ended, so that a late capture is told why."""
        for ended in booked.ended_holds:
            # Known from the instant it ended, not from when that was noticed: a tick must make no difference.
            known = place._replace(accepted_at=ended.at)
            identity = hold_identity(key, ended.hold_id)
            self.remember(identity, NO_FINGERPRINT, REASON_CODES[ended.end], ended.charged, known)
        self.records += [emit.ledger_entry(entry, place) for entry in booked.entries]
        self.records += [emit.account_statement(statement, place) for statement in booked.statements]
        self.records += [emit.account_alert(alert, place) for alert in booked.alerts]

    def denied(self, key: bytes, account: Account, reason: Reason, place: Place) -> None:
        if reason in WANT_OF_CREDITS:
            plan = self.plans_at(place.accepted_at)[account.subscription.plan_id]
            account, alert = after_denial(account, plan)
            if account.policy.topup is not None:  # A denial is looked at too: a back-off may be over.
                self.keep(key, account, place)
            self.alert(key, account, alert, place)

    def alert(self, key: bytes, account: Account, alert: Alert | None, place: Place) -> None:
        if alert is not None:
            self.records.append(emit.account_alert(alert, place))
            self.keep(key, account, place)

    def dead_letter(self, record: LogRecord, invalid: Invalid, place: Place) -> None:
        if invalid.reason is not Reason.LATE:  # Nobody's fault: a service may have been cut off for days.
            self.dead_letters += 1
        self.records.append(emit.dead_letter(record, invalid, place))

    def dead_letter_of(
        self,
        record: LogRecord,
        event: UsageEvent | Command | Publication,
        reason: Reason,
        detail: str,
        pointer: str,
        place: Place,
    ) -> None:
        match event:
            case UsageEvent():
                event_id, kind = event.event_id, f"{USAGE_TYPE_PREFIX}{event.service}{TYPE_VERSION_SUFFIX}"
            case Command() | Publication():
                event_id, kind = event.command_id, event.type
            case _:
                assert_never(event)
        self.dead_letter(record, Invalid(reason, detail, pointer, event_id, event.source, kind), place)


def hold_identity(key: bytes, hold_id: str) -> Identity:
    """Apart from every event's: no source has a control character."""
    return identity_of(key, "\x01hold", hold_id)
