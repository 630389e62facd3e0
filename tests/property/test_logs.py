"""The generated logs are not idle: each kind of thing that the properties are about occurs in them, often enough."""

from collections import Counter
from typing import Final

from hypothesis import given, settings

from pipeline.domain.credits import parse_credits
from tests.builders import Partition, Record
from tests.property.logs import logs, played, ticked

LOGS: Final = 200
OFTEN: Final = 3
"""In so many of the logs at least."""

COMMANDS: Final = (
    "open", "grant", "void_grant", "change_plan", "close", "configure", "hold", "capture", "release", "reverse",
    "rerate", "readmit", "topup_result",
)  # fmt: skip
WANTED: Final = {
    *[f"{name} {outcome}" for name in COMMANDS for outcome in ("accepted", "refused")],
    *["price_book accepted", "price_book refused", "plan_catalog accepted"],
    *["usage metered", "usage denied", "usage duplicate", "usage reversed", "usage rerated"],
    *["denied plan_paused", "denied credits_exhausted", "denied insufficient_credits"],
    *["refused hold_expired", "refused hold_captured", "refused hold_released", "refused exceeds_charge"],
    *["refused already_reversed", "refused reversal_too_late", "refused usage_answered"],
    *["letter conflict", "letter late", "letter too_late", "letter too_early"],
    *[f"entry {kind}" for kind in ("grant", "usage", "overage", "expiration", "void", "reversal")],
    *["overage back", "a credit expires that was taken back"],
    *["a hold gives to a grant that is gone", "a hold of overage", "topup order", "topup paid"],
    *["statement", "statement with overage", "alert limit_reached", "alert threshold"],
} - {"open refused", "void_grant refused", "close refused"}  # fmt: skip


def things(partition: Partition) -> set[str]:
    """Everything of `WANTED` that was said, each once."""
    found: set[str] = set()
    for each in partition.of("command-results"):
        name = each["type"].split(".")[-2]
        found |= {f"{name} {each['outcome']}", f"{each['outcome']} {each['reason']}"}
        held = each["hold"] if name == "hold" else None
        if held and parse_credits(held["credits"]) > parse_credits(each["balance_after"]):
            found.add("a hold of overage")
    for each in partition.of("metered-records"):
        found |= {f"usage {each['outcome']}", f"{each['outcome']} {each['reason']}"}
    found |= {f"letter {each['reason']}" for each in partition.of("dead-letters")}
    found |= {f"alert {each['kind']}" for each in partition.of("alerts")}
    found |= {"topup order" for _ in partition.of("topup-orders")}
    for each in partition.of("statements"):
        found |= {"statement", "statement with overage" if each["overage"] != "0" else ""}
    return found | _entered(partition)


def _entered(partition: Partition) -> set[str]:
    found: set[str] = set()
    taken_back = {each["offset"] for each in partition.of("ledger") if each["kind"] == "reversal"}
    for each in partition.of("ledger"):
        found.add(f"entry {each['kind']}")
        if each["kind"] == "overage" and each["credits"].startswith("-"):
            found.add("overage back")
        if each["kind"] == "expiration" and each["offset"] in taken_back and each["cause_source"]:
            found.add("a credit expires that was taken back")
        if each["kind"] == "expiration" and each["cause_id"].startswith("h"):
            found.add("a hold gives to a grant that is gone")
        if each["kind"] == "grant" and each["grants"][0]["grant_id"].startswith("topup:"):
            found.add("topup paid")
    return found


def test_everything_that_the_properties_are_about_occurs_often() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=LOGS, derandomize=True, database=None)
    @given(logs())
    def look(log: list[Record]) -> None:
        seen.update(things(played(ticked(log))))

    look()
    assert {name: seen[name] for name in sorted(WANTED) if seen[name] < OFTEN} == {}
