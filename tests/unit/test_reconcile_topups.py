"""Reconcile finds a top-up that should not have been: each rule broken in the records, one at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import orjson
import pytest

from pipeline.domain.instants import HOUR_MS
from pipeline.kafka import Message
from pipeline.reconcile.chain import micros
from pipeline.reconcile.report import Findings
from pipeline.reconcile.topups import Topups
from tests.builders import NOON, TICK, Partition, command, issue_grant, open_account, record, usage

CHOSEN = {"threshold": "50", "pack": "credits-100", "credits_max_per_period": "200"}
Said = dict[str, list[dict[str, Any]]]


class Logged(NamedTuple):
    at: int
    content: bytes

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return self.content


def lived() -> tuple[list[Logged], Said]:
    """Two crossings: the first is paid; the second is declined, asked for again an hour later, and paid."""

    def paid(order: int, result: str, at: int) -> dict[str, Any]:
        return command("topup_result", {"order": order, "result": result}, command_id=f"t{order}", at=at)

    def used(images: int, at: int = NOON) -> dict[str, Any]:
        return usage("image_analysis", event_id=f"e{images}", images=images, at=at)

    later = NOON + HOUR_MS
    events: list[tuple[int, Any]] = [
        (NOON, open_account("prepaid")),
        (NOON, issue_grant("120")),
        (NOON, command("configure", {"auto_topup": CHOSEN}, command_id="set")),
        (NOON, used(80)),
        (NOON, paid(1, "succeeded", NOON)),
        (NOON, used(99)),
        (NOON, paid(2, "declined", NOON)),
        (later, TICK),
        (later, paid(3, "succeeded", later)),
        (later, used(100, later)),
    ]
    partition = Partition()
    log = [record(event, offset=offset, at=at) for offset, (at, event) in enumerate(events)]
    partition.apply(partition.run(log))
    topics = ("topup-orders", "command-results", "statements", "ledger")
    return [Logged(each.offset, each.value or b"") for each in log], {
        name: partition.of(name) for name in topics
    }


def named(log: list[Logged], said: Said) -> list[tuple[int, str]]:
    findings = Findings()
    topups = Topups(partition=0, findings=findings, whole=True)
    for message in log:
        topups.see(cast(Message, message))
    for topic, look in (
        ("topup-orders", topups.read),
        ("command-results", topups.answered),
        ("statements", topups.closed),
    ):
        for each in said[topic]:
            look(each)
    for each in said["ledger"]:
        topups.follow(each, micros(each["credits"]))
    topups.finish()
    return [(each.offset, each.expected) for each in findings.listed]


def test_orders_within_the_rules_are_no_difference() -> None:
    log, said = lived()
    assert [each["order_number"] for each in said["topup-orders"]] == [1, 2, 3]
    assert named(log, said) == []


def _order_above(said: Said) -> None:
    said["topup-orders"][0]["credits_left"] = "50"


def _order_unanswered(said: Said) -> None:
    said["command-results"] = [each for each in said["command-results"] if each["command_id"] != "t1"]


def _order_too_soon(said: Said) -> None:
    said["topup-orders"][2]["accepted_at"] = "2026-11-23T12:59:59.999Z"


def _order_twice(said: Said) -> None:
    """The account never had the threshold again."""
    for each in said["ledger"]:
        each["balance_after"] = "40"


def _order_unpaid(said: Said) -> None:
    said["ledger"].append({**said["ledger"][-2], "offset": 9})


@pytest.mark.parametrize(
    ("broken", "offset", "expected"),
    [
        (_order_above, 3, "less than 50000000 left"),
        (_order_unanswered, 5, "an answer to order 1 first"),
        (_order_too_soon, 7, "no order before 2026-11-23T13:00:00.000Z"),
        (_order_twice, 5, "50000000 left once more after order 1"),
        (_order_unpaid, 9, "no grant: nothing was ordered, or it was paid before"),
    ],
)
def test_an_order_that_breaks_a_rule_is_named(
    broken: Callable[[Said], None], offset: int, expected: str
) -> None:
    log, said = lived()
    broken(said)
    assert (offset, expected) in named(log, said)


def test_an_order_beyond_the_cap_of_its_period_is_named() -> None:
    log, said = lived()
    smaller = {**CHOSEN, "credits_max_per_period": "199"}
    log[2] = Logged(2, orjson.dumps(command("configure", {"auto_topup": smaller}, command_id="set")))
    assert named(log, said) == [
        (5, "at most 199000000 bought in a period"),
        (7, "at most 199000000 bought in a period"),
    ]
