"""Outcomes for people and programs: one shape for everything that can become of an event or a command."""

from collections.abc import Collection
from typing import Any, Final

from pipeline.cli.exits import Exit
from pipeline.cli.output import write
from pipeline.client.outcomes import Outcome

_BACK: Final = {"expired": "expired with grants that have ended", "overage": "of overage not owed any more"}
_SHARED: Final = ("reason", "accepted_at", "partition", "offset")
_SHOWN: Final = {
    "metered_record": (
        "event_id", "source", "account_id", "service", "outcome", "credits", "rated_credits", "balance_after",
    ),
    "command_result": (
        "command_id", "account_id", "type", "outcome", "first_outcome", "detail", "hold", "plan_change",
        "publication", "reversal", "shortage", "topup", "balance_after", "available_after",
    ),
}  # fmt: skip


def answer_of(outcome: Outcome) -> dict[str, Any]:
    """The outcome as `--json` shows it. The whole record is in Kafka and ClickHouse, at this position."""
    record = outcome.record
    shared = {name: record[name] for name in _SHARED}
    match outcome.kind:
        case "metered_record" | "command_result":
            return {**_picked(record, *_SHOWN[outcome.kind]), **shared}
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
            words = _command_words(answer)
    write(f"{answer['outcome']:12} {name}  {words}")


def _command_words(answer: dict[str, Any]) -> str:
    """What a command did, or what is missing, and then the balance."""
    parts: list[str] = []
    if answer["reason"]:
        parts.append(f"{answer['reason']}: {answer['detail']}" if answer["detail"] else answer["reason"])
    if answer["publication"]:
        version = answer["publication"]
        parts.append(f"{version['version']} from {version['effective_from']}")
        return ", ".join([f"partition {answer['partition']}", *parts])
    if answer["shortage"]:
        shortage = answer["shortage"]
        parts.append(f"required {shortage['required']}, available {shortage['available']}")
        parts.append(f"resets at {shortage['resets_at']}")
    parts += _told_words(answer)
    parts.append(f"balance {answer['balance_after']}")
    if answer["available_after"] != answer["balance_after"]:
        parts.append(f"available {answer['available_after']}")
    return ", ".join(parts)


def _told_words(answer: dict[str, Any]) -> list[str]:
    """What is told beside the balance: of most commands nothing."""
    parts: list[str] = []
    if answer["reversal"]:
        parts += _reversal_words(answer["reversal"])
    if answer["plan_change"]:
        parts.append(_plan_words(answer["plan_change"], answer["accepted_at"]))
    if answer["topup"]:
        parts.append(_topup_words(answer["topup"]))
    if answer["hold"]:
        parts.append(_hold_words(answer["hold"], answer["type"]))
    return parts


def _reversal_words(told: dict[str, Any]) -> list[str]:
    parts = [f"{told['credits']} taken back: {told['returned']} returned to its grants"]
    parts += [f"{told[name]} {words}" for name, words in _BACK.items() if told[name] != "0"]
    return parts if told["recharged"] is None else [*parts, f"charged {told['recharged']} instead"]


def _plan_words(change: dict[str, Any], accepted_at: str) -> str:
    at_once = change["effective_at"] == accepted_at
    return f"plan {change['plan']} " + ("at once" if at_once else f"from {change['effective_at']}")


def _topup_words(topup: dict[str, Any]) -> str:
    wait = f", no other before {topup['not_before']}" if topup["not_before"] else ""
    return f"top-up order {topup['order']} {topup['result']}{wait}"


def _hold_words(hold: dict[str, Any], command_type: str) -> str:
    images = f" for {hold['images']} image(s)" if hold["images"] else ""
    match command_type.split(".")[-2]:
        case "capture":
            return f"{hold['credits']} credits charged{images}"
        case "release":
            return f"hold {hold['hold_id']} given back"
        case _:
            until = f" until {hold['expires_at']}" if hold["expires_at"] else ""
            return f"{hold['credits']} credits held{images}{until}"
