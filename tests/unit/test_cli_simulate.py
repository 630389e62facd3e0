"""`creditstream simulate`: the core over a log of lines, one answer each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from pipeline.bootstrap import load_core
from pipeline.cli.app import app
from pipeline.domain.instants import parse_instant
from pipeline.settings import Settings
from pipeline.simulation import Simulation
from tests.builders import flat_book

NOON = "2026-11-23T12:00:00Z"
OPEN = {
    "type": "org.apimage.account.open.v1",
    "subject": "acme",
    "accepted_at": NOON,
    "data": {"plan": "free"},
}


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(tmp_path))


def grant(grant_id: str, credits: str, **more: object) -> dict[str, Any]:
    data = {"grant_id": grant_id, "kind": "prepaid", "credits": credits, **more}
    return {"type": "org.apimage.account.grant.v1", "subject": "acme", "data": data}


def command(name: str, **data: object) -> dict[str, Any]:
    return {"type": f"org.apimage.account.{name}.v1", "subject": "acme", "data": data}


def removal(event_id: str, *, images: int = 1, **attributes: object) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/services/test",
        "type": "org.apimage.usage.background_removal.v1",
        "subject": "acme",
        "time": NOON,
        "data": {"images": images},
        **attributes,
    }


def tick(at: str) -> dict[str, Any]:
    return {"type": "org.apimage.tick.v1", "accepted_at": at}


def simulated(lines: Sequence[object], *options: str) -> list[dict[str, Any]]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    result = CliRunner().invoke(app, ["simulate", *options], input=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_line_has_one_outcome_in_order() -> None:
    log: list[object] = [
        OPEN,
        grant("pack", "0.5"),
        removal("a", images=10),
        removal("a", images=10),
        removal("a", images=11),
        removal("b", images=25),
        "no json",
        removal("c", subject="stranger"),
        tick("2026-11-23T12:00:05Z"),
    ]
    assert [
        (each["id"], each["outcome"], each["reason"], each["credits"], each["balance_after"])
        for each in simulated(log)
    ] == [
        ("line-1", "accepted", "", "0", "50"),
        ("line-2", "accepted", "", "0", "50.5"),
        ("a", "metered", "", "20", "30.5"),
        ("a", "duplicate", "duplicate", "0", "30.5"),
        ("a", "conflict", "conflict", "0", None),
        ("b", "denied", "insufficient_credits", "0", "30.5"),
        (None, "dead_letter", "malformed_json", "0", None),
        ("c", "dead_letter", "unknown_account", "0", None),
        (None, "tick", "", "0", None),
    ]


def test_time_passes_by_accepted_at_alone_and_ends_grants() -> None:
    log = [OPEN, grant("short", "7", expires_at="2026-11-23T13:00:00Z"), tick("2026-11-23T12:59:59.999Z")]
    before = simulated(log, "--balances")[-1]
    after = simulated([*log, tick("2026-11-23T13:00:00Z")], "--balances")[-1]
    assert (before["posted"], after["posted"]) == ("57", "50")
    assert [each["grant_id"] for each in after["grants"] if each["kind"] == "prepaid"] == []


def test_accepted_at_is_gone_before_the_core_sees_the_event() -> None:
    event = removal("a")
    room = Settings().rules.event_bytes_max - len(orjson.dumps(event)) - len(',"note":""')
    full = {**event, "note": "x" * room, "accepted_at": 1795435200000}  # Noon, in milliseconds.
    assert simulated([OPEN, full])[1]["outcome"] == "metered"
    full["note"] += "x"
    assert simulated([OPEN, full])[1]["reason"] == "too_large"


def test_a_log_that_never_says_when_it_was_accepted_is_taken_as_it_happened() -> None:
    opened = {name: value for name, value in OPEN.items() if name != "accepted_at"} | {"time": NOON}
    later = removal("b", time="2026-11-30T12:00:00Z")
    assert [each["outcome"] for each in simulated([opened, removal("a"), later])] == [
        "accepted",
        "metered",
        "metered",
    ]


def test_without_accepted_at_a_line_is_accepted_with_the_one_before_it() -> None:
    early = removal("b", time="2026-11-23T12:05:00.001Z")
    assert simulated([OPEN, early])[1]["reason"] == "too_early"


def test_commands_need_their_signature_only_where_asked() -> None:
    assert simulated([OPEN])[0]["outcome"] == "accepted"
    command = {**OPEN, "specversion": "1.0", "id": "1", "source": "/test", "time": NOON}
    assert simulated([command], "--verify-signatures")[0]["reason"] == "unsigned"


def test_an_unreadable_accepted_at_ends_the_run_after_the_answers_before_it() -> None:
    text = "\n".join(json.dumps(line) for line in [OPEN, removal("a", accepted_at="soon")])
    result = CliRunner().invoke(app, ["simulate"], input=text)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert "line 2" in result.stderr


def test_a_capture_is_answered_with_what_it_charged() -> None:
    usage = {name: value for name, value in removal("done").items() if name in {"type", "data"}}
    done = {name: removal("done", images=3)[name] for name in ("type", "id", "source", "time", "data")}
    log = [
        OPEN,
        command("hold", hold_id="job", usage={**usage, "data": {"images": 5}}),
        command("hold", hold_id="too-much", credits="41"),
        command("hold", hold_id="other", credits="7.5"),
        command("capture", hold_id="job", usage=done),
        removal("done", images=3),
        command("release", hold_id="job"),
        command("change_plan", plan="starter"),
    ]
    *answers, balance = simulated(log, "--balances")
    names = ("outcome", "reason", "credits", "balance_after", "available_after")
    assert [tuple(each.get(name) for name in names) for each in answers] == [
        ("accepted", "", "0", "50", "50"),
        ("accepted", "", "0", "50", "40"),
        ("refused", "insufficient_credits", "0", "50", "40"),
        ("accepted", "", "0", "50", "32.5"),
        ("accepted", "", "6", "44", "36.5"),
        ("duplicate", "duplicate", "0", "44", None),
        ("refused", "hold_captured", "0", "44", "36.5"),
        ("accepted", "", "0", "494", "486.5"),
    ]
    assert [answers[2]["shortage"][name] for name in ("required", "available")] == ["41", "40"]
    assert (balance["held"], balance["available"], balance["plan"]) == ("7.5", "486.5", "starter")


def test_the_answers_do_not_depend_on_how_the_log_is_cut() -> None:
    log: list[object] = [OPEN, *[removal(f"e{number}", images=number % 5 + 1) for number in range(20)]]
    log += [removal("e3"), tick("2026-12-30T00:00:00Z"), removal("late")]
    lines = [(number, json.dumps(line).encode()) for number, line in enumerate(log, start=1)]
    core = load_core(Settings())
    whole, cut = Simulation(core), Simulation(core)
    at_once = list(whole.fold(lines))
    piecewise = [answer for line in lines for answer in cut.fold([line])]
    assert at_once == piecewise
    assert list(whole.balances()) == list(cut.balances())


def test_overage_goes_to_its_ceiling_and_stands_in_the_balance() -> None:
    lines = [
        OPEN | {"data": {"plan": "starter"}},
        command("configure", overage_ceiling="10"),
        removal("e1", images=254),
        removal("e2", images=2),
    ]
    *_, used, denied, balance = simulated(lines, "--balances")
    assert (used["outcome"], used["credits"], used["balance_after"]) == ("metered", "508", "0")
    assert (denied["outcome"], denied["reason"]) == ("denied", "insufficient_credits")
    names = ("posted", "overage_ceiling", "overage", "available", "period_used")
    assert [balance[name] for name in names] == ["0", "10", "8", "2", "508"]


def test_a_price_book_that_is_published_counts_from_its_instant_on() -> None:
    at, before, after = "2026-11-23T13:00:00Z", "2026-11-23T12:59:59.999Z", "2026-11-23T13:00:00Z"
    book = flat_book("new", effective_from=parse_instant(at), image_analysis="3")
    published = {"type": "org.apimage.schedule.price_book.v1", "data": {"content": book}, "accepted_at": NOON}
    kind = "org.apimage.usage.image_analysis.v1"
    lines = [
        {**command("open", plan="pro"), "accepted_at": NOON},
        published,
        removal("e1", type=kind, accepted_at=before),
        removal("e2", type=kind, accepted_at=after),
    ]

    told = simulated(lines)

    assert told[1]["publication"]["version"] == "new"
    assert [each["credits"] for each in told[2:]] == ["1", "3"]


def test_every_command_is_understood_and_needs_only_what_it_says() -> None:
    """As a user would write them, by hand: no envelope, no signature, no place on a topic."""
    kind, late = "org.apimage.usage.image_analysis.v1", "2026-11-19T12:00:00Z"
    done = {"type": kind, "id": "u1", "source": "/s", "time": NOON, "data": {"images": 3}}
    old = {"type": kind, "id": "u3", "source": "/s", "time": late, "data": {}}
    topup = {"threshold": "100", "pack": "credits-100", "credits_max_per_period": "300"}
    letter = {"offset": 12, "accepted_at": NOON}
    lines: list[object] = [
        OPEN | {"data": {"plan": "starter"}},
        grant("pack", "20"),
        command("configure", overage_ceiling="50", alert_thresholds=[50, 100], auto_topup=topup),
        command("change_plan", plan="pro"),
        command("hold", hold_id="job", usage={"type": kind, "data": {"images": 5}}),
        command("capture", hold_id="job", usage=done),
        command("hold", hold_id="other", credits="7"),
        command("release", hold_id="other"),
        command("reverse", record={"event_offset": 5}, credits="1"),
        removal("u2", type=kind, data={"images": 2450}),
        command("topup_result", order=1, result="succeeded"),
        command("rerate", record={"event_offset": 9}, price_book="2026-01"),
        removal("u3", type=kind, source="/s", time=late, data={}),
        command("readmit", usage=old, letter=letter),
        command("void_grant", grant_id="pack"),
        tick("2026-12-23T12:00:00Z"),
        {"type": "org.apimage.account.close.v1", "subject": "acme"},
    ]
    answers = simulated(lines, "--details")
    assert {each["outcome"] for each in answers[:12]} == {"accepted", "metered"}
    assert [(each["outcome"], each["reason"]) for each in answers[12:]] == [
        ("dead_letter", "late"), ("accepted", ""), ("accepted", ""), ("tick", ""), ("accepted", ""),
    ]  # fmt: skip
    assert [each["threshold"] for each in answers[9]["alerts"]] == [50]
    assert [each["order_number"] for each in answers[9]["topup_orders"]] == [1]
    assert [each["kind"] for each in answers[11]["entries"]] == ["reversal", "usage"]
    assert [each["closing"] for each in answers[15]["statements"]] == ["100"]
    assert answers[0]["alerts"] == answers[0]["statements"] == answers[0]["topup_orders"] == []


def test_what_else_a_line_brought_is_said_only_when_asked() -> None:
    assert "entries" not in simulated([OPEN])[0]


def test_data_that_is_no_object_is_told_so_and_not_that_a_signature_is_missing() -> None:
    (answer,) = simulated([OPEN | {"data": None}])
    assert (answer["reason"], answer["pointer"]) == ("invalid_data", "/data")


def test_a_price_book_with_something_left_out_is_told_what_was_expected() -> None:
    book = {"type": "org.apimage.schedule.price_book.v1", "data": {"content": {"version": "x"}}}
    (answer,) = simulated([book])
    assert (answer["pointer"], answer["detail"]) == (
        "/data/content/effective_from",
        "expected a value, got nothing",
    )
