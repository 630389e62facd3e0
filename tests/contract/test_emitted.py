"""Everything that the core emits has the shape that `schemas/` promises, in model and in JSON Schema."""

import json
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.domain.instants import HOUR_MS, format_instant
from schemas.json_schema import json_schema
from schemas.shapes import CARRIED, RECORDS
from tests.builders import (
    NOON,
    SQUARE,
    TICK,
    Partition,
    catalog,
    command,
    flat_book,
    issue_grant,
    open_account,
    publication,
    usage,
)


def terms_and_holds() -> list[dict[str, Any]]:
    """Plans that change, holds that end in every way, an account that is closed; each also refused."""

    def asked(name: str, **data: Any) -> dict[str, Any]:
        return command(name, data, account="holder", command_id=f"{name}:{len(events)}")

    def image(**more: Any) -> dict[str, Any]:
        return {"type": "org.apimage.usage.image_generation.v1", "data": dict(SQUARE), **more}

    done = image(id="held", source="/services/images", time=format_instant(NOON))
    events = [open_account("free", account="holder")]
    events.append(asked("change_plan", plan="pro"))
    events.append(asked("change_plan", plan="starter"))
    events.append(asked("change_plan", plan="starter"))
    events.append(asked("hold", hold_id="done", usage=image()))
    events += [events[-1], asked("hold", hold_id="given back", credits=1.5)]  # The second is malformed.
    events.append(asked("hold", hold_id="given-back", credits="1.5"))
    events.append(asked("hold", hold_id="forgotten", credits=7, seconds=1))
    events.append(asked("hold", hold_id="too-much", credits="1000000"))
    events.append(asked("capture", hold_id="done", usage=done))
    events += [events[-1], asked("capture", hold_id="done", usage=done)]
    events.append(asked("capture", hold_id="given-back", usage=done))
    events.append(asked("release", hold_id="given-back"))
    events.append(asked("release", hold_id="nobody"))
    events += [
        open_account("starter", account="leaver"),
        command("close", {}, account="leaver", command_id="bye"),
    ]
    events += [command("close", {}, account="leaver", command_id="again"), usage(account="leaver")]
    return events


def running_out() -> list[dict[str, Any]]:
    """An account that goes beyond its grants up to its ceiling, and one that is not allowed to."""

    def configure(number: int, **data: Any) -> dict[str, Any]:
        return command("configure", data, account="spender", command_id=f"configure:{number}")

    def spend(images: int) -> dict[str, Any]:
        return usage("image_analysis", event_id=f"spent:{images}", images=images, account="spender")

    return [
        open_account("starter", account="spender"),
        configure(1, overage_ceiling="100.5", alert_thresholds=[50, 100, 110]),
        spend(250),
        spend(260),
        spend(50),
        spend(41),
        configure(2, overage_ceiling=None),
        configure(3, alert_thresholds=[100, 50]),  # Malformed.
        command("configure", {"overage_ceiling": "1"}, account="empty", command_id="configure:4"),
        command("configure", {"overage_ceiling": "1"}, command_id="configure:5"),  # Free plans offer none.
    ]


def published_versions() -> list[dict[str, Any]]:
    """A price book and plans that are published, the book twice, and a book that comes too late."""
    soon = NOON + HOUR_MS
    return [
        publication(flat_book("soon", effective_from=soon), command_id="book"),
        publication(flat_book("soon", effective_from=soon), command_id="the same"),
        publication(flat_book("at-once", effective_from=NOON), command_id="too soon"),
        publication(catalog("soon", effective_from=soon, max="20000"), command_id="plans"),
        publication(catalog("other", effective_from=soon), command_id="forged") | {"signature": "0" * 64},
    ]


def topping_up() -> list[dict[str, Any]]:
    """An account that buys three packs by itself: one paid, one declined, one open."""

    def said(name: str, **data: Any) -> dict[str, Any]:
        return command(name, data, account="buyer", command_id=f"{name}:{sorted(data.items())}")

    def spend(images: int) -> dict[str, Any]:
        return usage("image_analysis", event_id=f"bought:{images}", images=images, account="buyer")

    chosen = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "500"}
    return [
        open_account("prepaid", account="buyer"),
        issue_grant("60", account="buyer"),
        said("configure", auto_topup=chosen),
        said("configure", auto_topup={**chosen, "pack": "nothing"}),
        spend(20),
        said("topup_result", order=1, result="succeeded"),
        said("topup_result", order=1, result="declined"),
        said("topup_result", order=9, result="declined"),
        spend(100),
        said("topup_result", order=2, result="succeeded"),
        spend(95),
        said("topup_result", order=3, result="declined", reason="no money"),
        said("configure", auto_topup=None),
    ]


def busy_partition() -> Partition:
    """A partition in which everything happened that can happen, and the bytes of every record."""
    partition = Partition()
    at = NOON
    partition.fold(
        open_account("free"),
        open_account("enterprise", account="rich"),
        open_account("prepaid", account="empty"),
        issue_grant("100.5", expires_at=format_instant(NOON + 24 * HOUR_MS)),
        issue_grant("5", grant_id="later", effective_at=format_instant(NOON + HOUR_MS), priority=0),
        issue_grant("5", grant_id="never"),
        usage(event_id="first", model="sketch-3", nested={"deep": [1, {"er": None}]}),
        usage(event_id="first", model="sketch-3", nested={"deep": [1, {"er": None}]}),
        usage(event_id="first", quality="high"),
        usage("background_removal", event_id="formats", format="png", transparent_background=True),
        usage("image_analysis", event_id="languages", languages=["en", "日本語"], account="rich"),
        usage("upscaling", event_id="scaled", input_width=512, input_height=511, scale=1.125, account="rich"),
        usage("post_processing", event_id="sized", output_width=90_000, output_height=90_000, account="rich"),
        usage("transparent_background", event_id="заказ 7 🖼", images=10_000, account="rich"),
        usage("background_removal", event_id="too many", images=10_000),
        usage("background_removal", event_id="too many", images=10_000),
        usage("image_analysis", event_id="nothing left", account="empty"),
        usage("image_analysis", account="unknown"),
        usage(event_id="late", at=NOON - 100 * HOUR_MS),
        usage(event_id="too late", at=NOON - 1000 * HOUR_MS),
        usage(event_id="early", at=NOON + HOUR_MS),
        usage("image_analysis", event_id="", account="\x00"),
        command("void_grant", {"grant_id": "never"}),
        command("void_grant", {"grant_id": "none"}, command_id="c2"),
        command("void_grant", {"grant_id": "none"}, command_id="c2"),
        command("void_grant", {"grant_id": "other"}, command_id="c2"),
        command("open", {"plan": "gold"}, account="new"),
        issue_grant(account="new"),
        issue_grant("1", grant_id="gone", expires_at=format_instant(NOON)),
        open_account(command_id="again"),
        open_account() | {"signature": "0" * 64},
        *terms_and_holds(),
        *running_out(),
        *topping_up(),
        *published_versions(),
        b"",
        b"\xff",
        b"[" * 2000,
        b"{}",
        b'{"type": "com.example", "id": "\\u0000", "source": {}}',
        at=at,
    )
    for hours in (1, 24, 24 * 35):
        partition.fold(TICK, at=at + hours * HOUR_MS)
    return partition


PARTITION = busy_partition()
SAID: dict[str, list[dict[str, Any]]] = defaultdict(list)
for topic, content in PARTITION.said:
    SAID[topic].append(content)


def test_a_statement_adds_up() -> None:
    for each in SAID["metering.account-statements.v1"]:
        more = sum(Decimal(each[name]) for name in ("opening", "granted", "overage"))
        less = sum(Decimal(each[name]) for name in ("used", "expired", "voided"))
        assert more - less == Decimal(each["closing"])
        price = Decimal(each["overage_price"] or 0)
        assert Decimal(each["overage"]) * price == Decimal(each["overage_amount"])


OF_THE_CORE = [
    topic for topic, names in CARRIED.items() if set(names) <= RECORDS.keys() - {"alert_delivery.v1"}
]
"""Deliveries are the notifier's; its own test holds them to their shape."""


@pytest.mark.parametrize("topic", OF_THE_CORE)
def test_every_record_has_its_shape(topic: str) -> None:
    (name,) = CARRIED[topic]
    schema = Draft202012Validator(json_schema(name, RECORDS[name]))
    assert len(SAID[topic]) >= 3
    for content in SAID[topic]:
        schema.validate(content)
        again = RECORDS[name].model_validate_json(json.dumps(content))
        assert again.model_dump(mode="json", exclude_unset=True) == content


def test_the_partition_has_seen_everything() -> None:
    """Else the test above says less than it seems to."""
    metered, entries, results, dead, balances, alerts, statements = (
        [content for topic in SAID if stem in topic for content in SAID[topic]]
        for stem in ("metered-records", "ledger", "results", "dead", "balances", "alerts", "statements")
    )
    assert {(each["outcome"], each["reason"]) for each in metered} == {
        ("metered", ""),
        ("denied", "insufficient_credits"),
        ("denied", "credits_exhausted"),
        ("denied", "account_closed"),
        ("duplicate", "duplicate"),
        ("duplicate", "insufficient_credits"),
    }
    assert {each["kind"] for each in entries} == {"grant", "usage", "overage", "expiration", "void"}
    assert {each["outcome"] for each in results} == {"accepted", "refused", "duplicate"}
    told = {(each["outcome"], each["hold"] is None, each["shortage"] is None) for each in results}
    assert told == {(outcome, True, True) for outcome in ("accepted", "refused", "duplicate")} | {
        ("accepted", False, True),
        ("duplicate", False, True),
        ("refused", True, False),
    }
    changed = {each["plan_change"]["plan"] for each in results if each["plan_change"] is not None}
    assert changed == {"pro", "starter"}
    versions = {(each["outcome"], each["reason"]) for each in results if each["publication"] is not None}
    assert versions == {("accepted", ""), ("duplicate", ""), ("refused", "takes_force_too_soon")}
    assert {each["status"] for each in balances} == {"open", "closed"}
    assert any(each["holds"] and each["next_plan"] != each["plan"] for each in balances)
    assert {each["overage_ceiling"] for each in balances} >= {None, "1"}
    assert {(each["kind"], each["threshold"]) for each in alerts} >= {
        ("threshold", 50),
        ("threshold", 100),
        ("threshold", 110),
        ("limit_reached", None),
    }
    owed = {(each["overage"], each["overage_price"], each["overage_amount"]) for each in statements}
    assert owed >= {("0", None, "0"), ("60", "0.03", "1.8")}
    assert {each["reason"] for each in dead} == {
        "malformed_json",
        "unknown_type",
        "invalid_envelope",
        "bad_signature",
        "invalid_data",
        "conflict",
        "unknown_account",
        "late",
        "too_late",
        "too_early",
    }
