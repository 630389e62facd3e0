"""What becomes of a command that corrects past usage: puts it back, takes its charge back, or rates it again."""

from dataclasses import replace

from pipeline import emit
from pipeline.domain.account import Account, available, without_old_reversals
from pipeline.domain.alerts import after_use
from pipeline.domain.answers import Answer, Obeyed, Refused
from pipeline.domain.commands import Command, KnownUsage, ReadmitUsage, RecordPlace, RerateUsage, ReverseUsage
from pipeline.domain.credits import Credits, format_credits
from pipeline.domain.instants import DAY_MS, Instant
from pipeline.domain.ledger import Cause, denial, use
from pipeline.domain.price_book import book_in_force
from pipeline.domain.rating import RatedUsage, Unrated, rate
from pipeline.domain.reasons import Reason
from pipeline.domain.reversals import REVERSALS_MAX, PastUsage, reverse, reversed_before
from pipeline.domain.subscriptions import Booked
from pipeline.domain.usage import identity_of
from pipeline.emit import Place
from pipeline.evidence import past_usage, said_of
from pipeline.usage_rules import charge_or_deny
from pipeline.work import Work
from schemas.topics import METERED_RECORDS


def correct(
    work: Work,
    command: Command,
    body: ReadmitUsage | ReverseUsage | RerateUsage,
    account: Account | None,
    place: Place,
) -> Answer:
    """Carry it out. What it posts and meters is said here; the answer to the command is the caller's."""
    if account is None:
        return Refused(Reason.UNKNOWN_ACCOUNT, f"expected an open account, got {command.account_id!r}")
    if isinstance(body, ReadmitUsage):
        return _readmit(work, body, account, place)
    if account.closed:
        return Refused(Reason.ACCOUNT_CLOSED, f"account {command.account_id!r} was closed")
    usage = _charge(work, body.record, account, place)
    if isinstance(usage, Refused):
        return usage
    if isinstance(body, ReverseUsage):
        return _reverse(work, command, body, account, usage, place)
    return _rerate(work, command, body, account, usage, place)


def _readmit(work: Work, body: ReadmitUsage, account: Account, place: Place) -> Answer:
    """Usage that is put back is judged anew, but for its lateness: that is as old as its first acceptance.

    The index knows of every copy that was answered lately; who sent the command has looked further back.
    """
    usage = body.usage
    identity = identity_of(usage.account_id.encode(), usage.source, usage.event_id)
    first = work.first_answer(identity, place)
    known = body.known if first is None else KnownUsage(first.offset, first.fingerprint == usage.fingerprint)
    if known is not None and known.same_content:
        return Refused(Reason.USAGE_ANSWERED, f"this usage event was answered at offset {known.offset}")
    if known is not None:
        detail = (
            f"expected the content of the event at offset {known.offset}, which has the same source and id"
        )
        return Refused(Reason.CONFLICT, detail)
    outside = work.outside_window(usage.occurred_at, body.accepted_at)
    if outside is not None and not (
        outside[0] is Reason.TOO_LATE and work.is_late(usage.occurred_at, body.accepted_at)
    ):
        return Refused(*outside)
    rated = rate(usage, book_in_force(work.books, place.accepted_at))
    if isinstance(rated, Unrated):
        return Refused(Reason.UNPRICED, rated.detail)
    return Obeyed(charge_or_deny(work, account, usage, identity, rated, place), Booked())


def _charge(work: Work, named: RecordPlace, account: Account, place: Place) -> PastUsage | Refused:
    """The charge that a command names, if it is one of this account and young enough."""
    if named.partition != place.partition:
        detail = (
            f"expected a record of partition {place.partition}, where the account is, got {named.partition}"
        )
        return Refused(Reason.RECORD_MISMATCH, detail)
    found = work.evidence.get(named.event_offset) or _said_here(work, named.event_offset)
    usage = past_usage(found, named, account.account_id)
    if isinstance(usage, Refused):
        return usage
    if usage.accepted_at < place.accepted_at - work.core.rules.reversal_ms:
        days = work.core.rules.reversal_ms // DAY_MS
        return Refused(Reason.REVERSAL_TOO_LATE, f"expected a charge of the last {days} days")
    return usage


def _said_here(work: Work, event_offset: int) -> bytes | None:
    """A metered record of this very batch: nobody can have read it, but how the log is cut must not matter."""
    said = (each.value for each in reversed(work.records) if each.topic == METERED_RECORDS)
    return said_of(event_offset, said)


def _reverse(
    work: Work, command: Command, body: ReverseUsage, account: Account, usage: PastUsage, place: Place
) -> Answer:
    account = without_old_reversals(account, place.accepted_at)
    before = reversed_before(account, usage)
    left = usage.charged - before
    if not left:
        return Refused(Reason.ALREADY_REVERSED, "nothing is left of this charge")
    amount = left if body.credits is None else body.credits
    if amount > left:
        detail = f"expected at most {format_credits(left)} credits, which are left of it, got {format_credits(amount)}"
        return Refused(Reason.EXCEEDS_CHARGE, detail)
    if not before and len(account.reversals) >= REVERSALS_MAX:
        return _too_many()
    cause = Cause(command.source, command.command_id, place.partition, place.offset)
    account, entries, reversal = reverse(account, usage, Credits(amount), cause, Instant(place.accepted_at))
    work.book(Booked(entries), command.account_id.encode(), place)
    work.records.append(emit.reversed_usage(usage, reversal.credits, entries[0], account.posted, place))
    return Obeyed(account, Booked(), reversal=reversal)


def _rerate(
    work: Work, command: Command, body: RerateUsage, account: Account, usage: PastUsage, place: Place
) -> Answer:
    """All or nothing: where the new price does not fit, the old one stays."""
    account = without_old_reversals(account, place.accepted_at)
    if reversed_before(account, usage):
        return Refused(Reason.ALREADY_REVERSED, "something of this charge was taken back already")
    if len(account.reversals) >= REVERSALS_MAX:
        return _too_many()
    at = Instant(place.accepted_at)
    rated = _rated_again(work, usage, body.price_book, at)
    if isinstance(rated, Refused):
        return rated
    cause = Cause(command.source, command.command_id, place.partition, place.offset)
    account, entries, reversal = reverse(account, usage, usage.charged, cause, at)
    plan = work.plans_at(at)[account.subscription.plan_id]
    reason = denial(account, rated.credits, plan)
    if reason is not None:
        costs, fits = format_credits(rated.credits), format_credits(available(account))
        return Refused(
            reason, f"costs {costs} credits, {fits} are available once the old charge is taken back"
        )
    booked, entry = Booked(entries), None
    if rated.credits:
        event = usage.event
        charged = Cause(event.source, event.event_id, place.partition, place.offset)
        account, charges = use(account, rated.credits, charged, at)
        account, alert = after_use(account, plan)
        entry = charges[-1]
        booked.entries += charges
        booked.alerts += [] if alert is None else [alert]
    work.book(booked, command.account_id.encode(), place)
    work.records.append(emit.rerated_usage(usage, rated, entry, account.posted, place))
    return Obeyed(account, Booked(), reversal=replace(reversal, recharged=rated.credits))


def _rated_again(work: Work, usage: PastUsage, version: str, at: Instant) -> RatedUsage | Refused:
    """By a book that has taken force: one of later charges nothing before its time (our decision), whoever names it."""
    in_force = {each.version: each for each in work.books if each.effective_from <= at}
    book = in_force.get(version)
    if book is None:
        known = ", ".join(in_force)
        return Refused(
            Reason.UNKNOWN_PRICE_BOOK,
            f"expected one of {known}, which have taken force by now, got {version!r}",
        )
    rated = rate(usage.event, book)
    return Refused(Reason.UNPRICED, rated.detail) if isinstance(rated, Unrated) else rated


def _too_many() -> Refused:
    return Refused(Reason.TOO_MANY_REVERSALS, f"expected at most {REVERSALS_MAX} corrected charges at a time")
