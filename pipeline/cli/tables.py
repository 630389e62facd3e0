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
    names = ("grant_id", "kind", "remaining", "credits", "priority", "expires_at")
    rows = [[grant[name] or "never" for name in names] for grant in found["grants"]]
    write_table(names, rows)
    if found["holds"]:
        columns = ("hold_id", "credits", "expires_at")
        write_table(columns, [[hold[name] for name in columns] for hold in found["holds"]], title="Holds")


def write_usage(rows: list[dict[str, Any]], by: UsageBy) -> None:
    """Usage as a table with its total."""
    names = (by, "metered", "denied", "duplicates", "images", "credits")
    counts = [sum(row[name] for row in rows) for name in names[1:-1]]
    total = ["total", *counts, format(sum((Decimal(row["credits"]) for row in rows), Decimal(0)), "f")]
    write_table(names, [*[[row[name] for name in names] for row in rows], total])
