"""How far the sink has come, by what stands in the tables."""

from typing import Any, Final

from pipeline.clickhouse import Client
from pipeline.query.rows import rows

_REACHED: Final = "SELECT partition, max(partition_seq) AS reached FROM account_balances GROUP BY partition"
_POSTED: Final = "SELECT sum(credits) AS posted FROM ledger_entries_v1"
_LAST_HOUR: Final = """
SELECT outcome, count() AS records, sum(metered_records_v1.credits) AS credits FROM metered_records_v1
WHERE accepted_at >= now64(3) - INTERVAL 1 HOUR GROUP BY outcome ORDER BY outcome
"""
_DEAD: Final = (
    "SELECT reason, count() AS records FROM dead_letters_v1 GROUP BY reason ORDER BY records DESC, reason"
)


def balances_reached(client: Client) -> dict[int, int]:
    """Partition → number (`partition_seq`) of the newest balance that is stored.

    Of the table itself: whether a row is there does not depend on merges.
    """
    return {row["partition"]: row["reached"] for row in rows(client, _REACHED)}


def figures(client: Client) -> dict[str, Any]:
    """What operators look at first: how far the balances are stored, what the ledger's entries sum up to, the usage
    of the last hour by outcome, dead letters by reason."""
    return {
        "reached": balances_reached(client),
        "posted": rows(client, _POSTED)[0]["posted"],
        "last_hour": rows(client, _LAST_HOUR),
        "dead_letters": rows(client, _DEAD),
    }
