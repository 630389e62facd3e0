"""Deliveries of alerts, as the notifier's log in ClickHouse has them."""

from typing import Any, Final

from pipeline.clickhouse import Client
from pipeline.query.rows import rows

_DELIVERY: Final = """
SELECT
    delivery_id, account_id, alert_id, kind, threshold, used, base, period_start, period_end, accepted_at, channel,
    target_id, target, status, attempts, redeliveries, last_code, last_error, next_attempt_at, updated_at, seq
FROM alert_deliveries_v1 WHERE account_id = {account:String} AND delivery_id = {delivery:String} LIMIT 1
"""


def delivery(client: Client, account: str, delivery_id: str) -> dict[str, Any] | None:
    """One delivery as it stood about a second ago; None when there is none."""
    return next(iter(rows(client, _DELIVERY, {"account": account, "delivery": delivery_id})), None)
