"""What an account holds, and what it used."""

from typing import Any, Final, Literal

import orjson

from pipeline.clickhouse import Client
from pipeline.query.rows import rows

UsageBy = Literal["day", "service"]

_BALANCE: Final = """
SELECT
    account_id, plan, next_plan, status, posted, held, available, overage_ceiling, overage,
    alert_thresholds, auto_topup, holds, grants, period_used, period_start, period_end,
    entry_seq, accepted_at
FROM account_balances_v1 WHERE account_id = {account:String}
"""
_ENTRIES: Final = """
SELECT entry_seq, kind, credits, balance_after, booked_at, cause_source, cause_id, grants, partition, offset
FROM ledger_entries_v1 WHERE account_id = {account:String}
ORDER BY entry_seq DESC LIMIT {limit:UInt32}
"""
_STATEMENTS: Final = """
SELECT
    plan, period_start, period_end, opening, granted, overage, reversed, used, expired, voided, closing, overage_price,
    overage_amount, overage_returned, overage_returns, currency, last_entry_seq
FROM account_statements_v1 WHERE account_id = {account:String}
ORDER BY partition_seq DESC, period_end DESC LIMIT {limit:UInt32}
"""
_ALERTS: Final = """
SELECT alert_id, kind, threshold, used, base, period_start, period_end, accepted_at
FROM account_alerts_v1 WHERE account_id = {account:String}
ORDER BY partition_seq DESC LIMIT {limit:UInt32}
"""
_TOPUPS: Final = """
SELECT order_number, pack, credits, price, currency, threshold, credits_left, accepted_at
FROM topup_orders_v1 WHERE account_id = {account:String}
ORDER BY order_number DESC LIMIT {limit:UInt32}
"""
_KEYS: Final[dict[UsageBy, str]] = {"day": "toDate(accepted_at) AS day", "service": "service"}
_USAGE: Final = """
SELECT
    KEY,
    countIf(outcome = 'metered') AS metered,
    countIf(outcome = 'denied') AS denied,
    countIf(outcome = 'duplicate') AS duplicates,
    sumIf(metered_records_v1.images, outcome = 'metered') AS images,
    sum(metered_records_v1.credits) AS credits
FROM metered_records_v1
WHERE account_id IN {accounts:Array(String)}
    AND accepted_at >= parseDateTime64BestEffort({since:String}, 3, 'UTC')
    AND accepted_at < parseDateTime64BestEffort({until:String}, 3, 'UTC')
GROUP BY 1 ORDER BY 1
"""
BEGINNING: Final = "1970-01-01T00:00:00Z"
END: Final = "2100-01-01T00:00:00Z"
"""Half open, as all periods."""


def balance(client: Client, account: str) -> dict[str, Any] | None:
    """The account's newest balance with its grants in burn order; None when nobody opened it."""
    found = next(iter(rows(client, _BALANCE, {"account": account})), None)
    if found is not None:
        found["auto_topup"] = orjson.loads(found["auto_topup"]) if found["auto_topup"] else None
    return found


def newest_entries(client: Client, account: str, limit: int) -> list[dict[str, Any]]:
    """The account's last ledger entries, the newest first."""
    return rows(client, _ENTRIES, {"account": account, "limit": limit})


def newest_statements(client: Client, account: str, limit: int) -> list[dict[str, Any]]:
    """The account's last closed periods, the newest first."""
    return rows(client, _STATEMENTS, {"account": account, "limit": limit})


def newest_alerts(client: Client, account: str, limit: int) -> list[dict[str, Any]]:
    """The account's last alerts, the newest first."""
    return rows(client, _ALERTS, {"account": account, "limit": limit})


def newest_topups(client: Client, account: str, limit: int) -> list[dict[str, Any]]:
    """The account's last top-up orders, the newest first."""
    return rows(client, _TOPUPS, {"account": account, "limit": limit})


def usage(
    client: Client, accounts: list[str], *, by: UsageBy, since: str = BEGINNING, until: str = END
) -> list[dict[str, Any]]:
    """What the accounts used, accepted in [since, until), by UTC day or by service."""
    parameters = {"accounts": accounts, "since": since, "until": until}
    return rows(client, _USAGE.replace("KEY", _KEYS[by]), parameters)
