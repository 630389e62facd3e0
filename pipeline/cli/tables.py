"""Balances and usage as words and tables."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pipeline.cli.output import write, write_table
from pipeline.query.accounts import UsageBy


def write_balance(found: Mapping[str, Any]) -> None:
    """A balance in words, with tables of its grants and holds."""
    held = f" ({found['held']} of {found['posted']} held)" if found["held"] != "0" else ""
    write(f"{found['account_id']}  {found['available']} credits available{held}")
    plan = found["plan"]
    if found["status"] == "closed":
        plan += " (account closed)"
    elif found["next_plan"] != plan:
        plan += f" (then {found['next_plan']})"
    write(
        f"plan {plan}, period {found['period_start']} to {found['period_end']}, {found['period_used']} used"
    )
    if found["overage_ceiling"] is not None:
        write(f"overage {found['overage']} of at most {found['overage_ceiling']} a period (protection off)")
    elif found["overage"] != "0":
        write(f"overage {found['overage']} in this period (protection on again)")
    names = ("grant_id", "kind", "remaining", "credits", "priority", "expires_at")
    rows = [[grant[name] or "never" for name in names] for grant in found["grants"]]
    write_table(names, rows)
    if found["holds"]:
        columns = ("hold_id", "credits", "expires_at")
        write_table(columns, [[hold[name] for name in columns] for hold in found["holds"]], title="Holds")


def write_statements(found: list[dict[str, Any]]) -> None:
    """Statements as a table; the money of their overage in the last column."""
    names = (
        "plan",
        "period_start",
        "period_end",
        "opening",
        "granted",
        "overage",
        "reversed",
        "used",
        "expired",
        "voided",
        "overage_returned",
    )
    rows = [[*(each[name] for name in names), each["closing"], _money(each)] for each in found]
    write_table((*names, "closing", "overage costs"), rows)


def _money(statement: Mapping[str, Any]) -> str:
    parts: list[str] = []
    if statement["overage"] != "0":
        amount, currency = statement["overage_amount"], statement["currency"]
        parts.append(f"{amount} {currency} ({statement['overage']} × {statement['overage_price']})")
    for back in statement["overage_returns"]:
        words = f"-{back['amount']} {back['currency']} ({back['credits']} × {back['overage_price']}"
        parts.append(f"{words}, of the period to {back['period_end'][:10]})")
    return ", ".join(parts)


def write_alerts(found: list[dict[str, Any]]) -> None:
    """Alerts as a table."""
    columns = ("accepted_at", "alert", "used", "of", "period_start", "period_end")
    rows = [
        [
            each["accepted_at"],
            "limit reached" if each["threshold"] is None else f"{each['threshold']} %",
            *(each[name] for name in ("used", "base", "period_start", "period_end")),
        ]
        for each in found
    ]
    write_table(columns, rows)


def write_usage(rows: list[dict[str, Any]], by: UsageBy) -> None:
    """Usage as a table with its total."""
    names = (by, "metered", "denied", "duplicates", "images", "credits")
    counts = [sum(row[name] for row in rows) for name in names[1:-1]]
    total = ["total", *counts, format(sum((Decimal(row["credits"]) for row in rows), Decimal(0)), "f")]
    write_table(names, [*[[row[name] for name in names] for row in rows], total])
