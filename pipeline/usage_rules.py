"""What becomes of a usage event: the rules in their order.

identity → account, window, price, policy (design.md section 3). So a resend is recognised whatever has changed since;
an event that was denied has used up its identity, a dead letter has not.
"""

from pipeline import emit
from pipeline.domain.account import Account
from pipeline.domain.alerts import after_use
from pipeline.domain.credits import NO_CREDITS
from pipeline.domain.instants import Instant
from pipeline.domain.ledger import Cause, denial, use
from pipeline.domain.price_book import book_in_force
from pipeline.domain.rating import RatedUsage, Unrated, rate
from pipeline.domain.reasons import METERED_CODE, REASON_CODES, REASON_OF_CODE, Reason
from pipeline.domain.usage import Identity, UsageEvent, identity_of
from pipeline.emit import Place
from pipeline.state import FirstAnswer
from pipeline.validate import LogRecord
from pipeline.work import Work


def answer_usage(work: Work, record: LogRecord, event: UsageEvent, place: Place) -> None:
    key = record.key
    assert key is not None, "validation lets no event through whose key is not its subject"
    account = work.account_now(key, place)
    identity = identity_of(key, event.source, event.event_id)
    first = work.first_answer(identity, place)
    if first is not None:
        _answer_again(work, record, event, first, account, place)
        return
    if account is None:
        detail = f"expected an open account, got {event.account_id!r}"
        work.dead_letter_of(record, event, Reason.UNKNOWN_ACCOUNT, detail, "/subject", place)
        return
    outside = work.outside_window(event.occurred_at, place.accepted_at)
    if outside is not None:
        reason, detail = outside
        if reason is Reason.TOO_LATE and work.is_late(event.occurred_at, place.accepted_at):
            reason = Reason.LATE
        work.dead_letter_of(record, event, reason, detail, "/time", place)
        return
    rated = rate(event, book_in_force(work.books, place.accepted_at))
    if isinstance(rated, Unrated):
        work.dead_letter_of(record, event, Reason.UNPRICED, rated.detail, "/data", place)
        return
    charge_or_deny(work, account, event, identity, rated, place)


def charge_or_deny(
    work: Work, account: Account, event: UsageEvent, identity: Identity, rated: RatedUsage, place: Place
) -> Account:
    """The policy, and the charge with everything that follows from it. Also for usage that is readmitted."""
    key = event.account_id.encode()
    plan = work.plans_at(place.accepted_at)[account.subscription.plan_id]
    reason = denial(account, rated.credits, plan)
    if reason is not None:
        work.records.append(emit.denied(event, rated, reason, account, place))
        work.remember(identity, event.fingerprint, REASON_CODES[reason], rated.credits, place)
        work.denied(key, account, reason, place)
        return work.accounts.get(key, account)
    entry = None
    if rated.credits:
        cause = Cause(event.source, event.event_id, place.partition, place.offset)
        account, entries = use(account, rated.credits, cause, Instant(place.accepted_at))
        entry = entries[-1]
        work.records += [emit.ledger_entry(each, place) for each in entries]
        account, alert = after_use(account, plan)
        work.alert(key, account, alert, place)
        work.keep(key, account, place)
    work.records.append(emit.metered(event, rated, entry, account.posted, place))
    work.remember(identity, event.fingerprint, METERED_CODE, rated.credits, place)
    return account


def _answer_again(
    work: Work,
    record: LogRecord,
    event: UsageEvent,
    first: FirstAnswer,
    account: Account | None,
    place: Place,
) -> None:
    if first.fingerprint != event.fingerprint:
        detail = (
            f"expected the content of the event at offset {first.offset}, which has the same source and id"
        )
        work.dead_letter_of(record, event, Reason.CONFLICT, detail, "/id", place)
        return
    balance = NO_CREDITS if account is None else account.posted
    reason = REASON_OF_CODE.get(first.code)
    work.records.append(emit.duplicate(event, first, reason or "", balance, place))
