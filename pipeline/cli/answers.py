"""Outcomes for people and programs: one shape for everything that can become of an event or a command."""

from collections.abc import Collection
from typing import Any

from pipeline.cli.exits import Exit
from pipeline.cli.output import write
from pipeline.client.outcomes import Outcome

_SHARED = ("reason", "accepted_at", "partition", "offset")


def answer_of(outcome: Outcome) -> dict[str, Any]:
    """The outcome as `--json` shows it. The whole record is in Kafka and ClickHouse, at this position."""
    record = outcome.record
    shared = {name: record[name] for name in _SHARED}
    match outcome.kind:
        case "metered_record":
            names = ("event_id", "source", "account_id", "service", "outcome", "credits", "rated_credits")
            return {**_picked(record, *names), "balance_after": record["balance_after"], **shared}
        case "command_result":
            names = (
                "command_id",
                "account_id",
                "type",
                "outcome",
                "first_outcome",
                "detail",
                "balance_after",
            )
            return {**_picked(record, *names), **shared}
        case "dead_letter":
            found = {"event_id": record["event_id"], "account_id": record["account_id"]}
            return {**found, "outcome": "dead_letter", **_picked(record, "detail", "pointer"), **shared}


def _picked(record: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: record[name] for name in names}


def exit_of(outcome: Outcome) -> Exit:
    """0 done, 4 refused by a rule, 1 dead letter. A resend ends as its first copy did."""
    if outcome.kind == "dead_letter":
        return Exit.FAILED
    if outcome.kind == "command_result":
        return Exit.OK if outcome.record["first_outcome"] == "accepted" else Exit.REFUSED
    denied = outcome.record["outcome"] == "denied" or outcome.record["reason"] not in {"", "duplicate"}
    return Exit.REFUSED if denied else Exit.OK


def worst(exits: Collection[Exit]) -> Exit:
    """The exit code of many outcomes: a dead letter outweighs a refusal."""
    return next((code for code in (Exit.FAILED, Exit.REFUSED) if code in exits), Exit.OK)


def write_words(answer: dict[str, Any]) -> None:
    """One outcome as a line for people."""
    name = answer.get("event_id") or answer.get("command_id") or "(no id)"
    match answer["outcome"]:
        case "metered":
            words = f"{answer['credits']} credits, balance {answer['balance_after']}"
        case "denied":
            words = f"{answer['reason']}: costs {answer['rated_credits']}, balance {answer['balance_after']}"
        case "dead_letter":
            words = f"{answer['reason']}: {answer['detail']}"
        case "duplicate" if "service" in answer:
            words = f"first answered with {answer['rated_credits']} credits, nothing charged again"
        case _:
            reason = f"{answer['reason']}: {answer['detail']}, " if answer["reason"] else ""
            words = f"{reason}balance {answer['balance_after']}"
    write(f"{answer['outcome']:12} {name}  {words}")
