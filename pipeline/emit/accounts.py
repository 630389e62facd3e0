"""Ledger entries, balances, statements and alerts of one account."""

from decimal import Decimal
from typing import Any

import orjson

from pipeline.domain.account import LIMIT_REACHED, Account, BilledOverage, Hold, available
from pipeline.domain.alerts import Alert
from pipeline.domain.credits import NO_CREDITS, Credits, format_credits
from pipeline.domain.grants import Grant
from pipeline.domain.instants import format_instant
from pipeline.domain.ledger import LedgerEntry
from pipeline.domain.subscriptions import Statement
from pipeline.domain.topup import TopupOrder
from pipeline.emit.records import OutRecord, Place, written_shares
from schemas.topics import ACCOUNT_ALERTS, ACCOUNT_BALANCES, ACCOUNT_STATEMENTS, LEDGER_ENTRIES, TOPUP_ORDERS


def ledger_entry(entry: LedgerEntry, place: Place) -> OutRecord:
    """One entry of the account's ledger."""
    at = place.accepted_at
    value = orjson.dumps(
        {
            "account_id": entry.account_id,
            "entry_seq": entry.entry_seq,
            "kind": entry.kind,
            "credits": format_credits(entry.credits),
            "balance_after": format_credits(entry.balance_after),
            "booked_at": place.accepted_text if entry.booked_at == at else format_instant(entry.booked_at),
            "accepted_at": place.accepted_text,
            "cause_source": entry.cause.source,
            "cause_id": entry.cause.cause_id,
            "grants": written_shares(entry.shares),
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "previous_hash": entry.previous_hash,
            "entry_hash": entry.entry_hash,
        }
    )
    return OutRecord(LEDGER_ENTRIES, entry.account_id.encode(), value, place.accepted_at)


def account_balance(account: Account, place: Place) -> OutRecord:
    """The account's newest balance, once a batch."""
    grants = [
        _grant_balance(grant, left) for grant, left in zip(account.grants, account.remaining, strict=True)
    ] + [_grant_balance(grant, NO_CREDITS) for grant in account.pending]
    subscription = account.subscription
    posted, ceiling = format_credits(account.posted), account.policy.overage_ceiling
    value = orjson.dumps(
        {
            "account_id": account.account_id,
            "plan": subscription.plan_id,
            "next_plan": subscription.next_plan_id,
            "status": "closed" if account.closed else "open",
            "posted": posted,
            "held": format_credits(account.held),
            "available": format_credits(available(account)),
            "overage_ceiling": None if ceiling is None else format_credits(ceiling),
            "overage": format_credits(account.totals.overage),
            "alert_thresholds": account.policy.thresholds,
            "auto_topup": _topup(account),
            "holds": [_open_hold(hold) for hold in account.holds],
            "grants": grants,
            "period_used": format_credits(account.totals.used),
            "period_start": format_instant(subscription.period_start),
            "period_end": format_instant(subscription.period_end),
            "entry_seq": account.entry_seq,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_BALANCES, account.account_id.encode(), value, place.accepted_at)


def _open_hold(hold: Hold) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "credits": format_credits(hold.credits),
        "expires_at": format_instant(hold.expires_at),
    }


def account_statement(statement: Statement, place: Place) -> OutRecord:
    """The statement of a closed period. Overage in money is exact: credits × price, rounded by whoever pays it."""
    totals, price = statement.totals, statement.overage_price
    value = orjson.dumps(
        {
            "account_id": statement.account_id,
            "plan": statement.plan_id,
            "period_start": format_instant(statement.period_start),
            "period_end": format_instant(statement.period_end),
            "opening": format_credits(totals.opening),
            "granted": format_credits(totals.granted),
            "used": format_credits(totals.used),
            "expired": format_credits(totals.expired),
            "voided": format_credits(totals.voided),
            "reversed": format_credits(totals.reversed),
            "overage": format_credits(totals.overage),
            "overage_price": None if price is None else format(price, "f"),
            "overage_amount": format_money(totals.overage, price),
            "overage_returned": format_credits(totals.overage_returned),
            "overage_returns": [_returned(each) for each in statement.returns],
            "currency": statement.currency,
            "closing": format_credits(statement.closing),
            "last_entry_seq": statement.last_entry_seq,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_STATEMENTS, statement.account_id.encode(), value, place.accepted_at)


def _returned(billed: BilledOverage) -> dict[str, Any]:
    price = None if billed.price is None else Decimal(billed.price)
    return {
        "period_end": format_instant(billed.period_end),
        "credits": format_credits(billed.returned),
        "overage_price": billed.price,
        "amount": format_money(billed.returned, price),
        "currency": billed.currency,
    }


def format_money(amount: Credits, price: Decimal | None) -> str:
    """Credits in money, exact, without trailing zeros; "0" where nothing is owed."""
    if price is None or not amount:
        return "0"
    return format((Decimal(amount).scaleb(-6) * price).normalize(), "f")


def account_alert(alert: Alert, place: Place) -> OutRecord:
    """An alert for the notifier. Its id is the same in every replay."""
    period = format_instant(alert.period_start)
    limit_reached = alert.threshold == LIMIT_REACHED
    value = orjson.dumps(
        {
            "alert_id": f"{alert.account_id}:{period}:{alert.threshold or 'limit'}:{alert.entry_seq}",
            "account_id": alert.account_id,
            "kind": "limit_reached" if limit_reached else "threshold",
            "threshold": None if limit_reached else alert.threshold,
            "used": format_credits(alert.used),
            "base": format_credits(alert.base),
            "period_start": period,
            "period_end": format_instant(alert.period_end),
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(ACCOUNT_ALERTS, alert.account_id.encode(), value, place.accepted_at)


def topup_order(order: TopupOrder, place: Place) -> OutRecord:
    """An order for the payment process."""
    value = orjson.dumps(
        {
            "order_id": f"{order.account_id}:topup:{order.number}",
            "account_id": order.account_id,
            "order_number": order.number,
            "pack": order.pack_id,
            "credits": format_credits(order.credits),
            "price": format(order.price, "f"),
            "currency": order.currency,
            "threshold": format_credits(order.threshold),
            "credits_left": format_credits(order.left),
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
        }
    )
    return OutRecord(TOPUP_ORDERS, order.account_id.encode(), value, place.accepted_at)


def _topup(account: Account) -> dict[str, Any] | None:
    chosen, state = account.policy.topup, account.topup
    if chosen is None:
        return None
    return {
        "threshold": format_credits(chosen.threshold),
        "pack": chosen.pack_id,
        "credits_max_per_period": format_credits(chosen.credits_max),
        "bought": format_credits(state.bought),
        "open_order": state.open_order or None,
        "not_before": format_instant(state.not_before) if state.declines else None,
    }


def _grant_balance(grant: Grant, left: Credits) -> dict[str, Any]:
    return {
        "grant_id": grant.grant_id,
        "kind": grant.kind,
        "priority": grant.priority,
        "credits": format_credits(grant.credits),
        "remaining": format_credits(left),
        "effective_at": format_instant(grant.effective_at),
        "expires_at": None if grant.expires_at is None else format_instant(grant.expires_at),
    }
