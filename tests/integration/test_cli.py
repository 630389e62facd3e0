"""The command line against real servers: what is sent, what comes back, and with which exit code."""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from pipeline.admin.topics import ensure_topics
from pipeline.cli.app import app
from pipeline.client.commands import command_key, signed, unsigned_command
from pipeline.client.events import encode, usage_event
from pipeline.client.origin import now_text
from pipeline.load import LoadRecord
from pipeline.settings import STATE_FILE, Settings, child_environment
from tests import stack
from tests.integration import small_pipeline
from tests.stream_workers import wait_until_held, workers

pytestmark = pytest.mark.integration
GENERATION = ("--quality", "high", "--width", "1024", "--height", "1024")
Cli = Callable[..., Result]


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line of this test's deployment."""
    ensure_topics(settings)
    write_settings(settings)
    monkeypatch.setenv("CREDITSTREAM_HOME", str(settings.home))

    def run(*arguments: str, stdin: str | bytes | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(app, arguments, input=stdin)
        assert result.exit_code == code, (arguments, result.output, result.exception)
        return result

    return run


def write_settings(settings: Settings) -> None:
    values = settings.model_dump(mode="json", exclude={"home"})
    values["command_keys"] = {key: secret.get_secret_value() for key, secret in settings.command_keys.items()}
    for name in ("password", "analyst_password"):
        values["clickhouse"][name] = getattr(settings.clickhouse, name).get_secret_value()
    (settings.home / STATE_FILE).write_text(json.dumps(values))


def answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_usage_and_commands_come_back_with_their_outcome_and_exit_code(cli: Cli, settings: Settings) -> None:
    with workers(settings, "worker") as [worker]:
        write_settings(settings)
        wait_until_held(settings, worker)
        assert "balance 50" in cli("account", "open", "acme").stdout
        assert "account_exists" in cli("account", "open", "acme", code=4).stdout
        [granted] = answers(cli("account", "grant", "acme", "2.5", "--grant-id", "pack", "--json"))
        assert (granted["outcome"], granted["balance_after"]) == ("accepted", "52.5")

        image = ("send", "image_generation", "--account", "acme", *GENERATION, "--id", "e1", "--json")
        [first] = answers(cli(*image, "--images", "4"))
        assert (first["outcome"], first["credits"], first["balance_after"]) == ("metered", "8", "44.5")
        [again] = answers(cli(*image, "--images", "4"))
        assert (again["outcome"], again["credits"], again["rated_credits"]) == ("duplicate", "0", "8")
        [other] = answers(cli(*image, "--images", "5", code=1))
        assert (other["outcome"], other["reason"]) == ("dead_letter", "conflict")
        too_much = ("send", "background-removal", "--account", "acme", "--images", "23", "--id", "e2")
        assert "insufficient_credits: costs 46, balance 44.5" in cli(*too_much, code=4).stdout
        cli("account", "grant", "acme", "10", "--grant-id", "late")
        assert "duplicate" in cli(*too_much, code=4).stdout  # A denial stays one, whatever came since.
        assert "balance 52" in cli("account", "void-grant", "acme", "pack").stdout
        assert "unknown_grant" in cli("account", "void-grant", "acme", "pack", code=4).stdout
        configure = ("account", "configure", "acme")
        assert "overage_not_offered" in cli(*configure, "--overage-ceiling", "5", code=4).stdout
        cli(*configure, "--thresholds", "none")


def test_credits_are_asked_for_before_the_work(cli: Cli, settings: Settings) -> None:
    with workers(settings, "worker") as [worker]:
        write_settings(settings)
        wait_until_held(settings, worker)
        cli("account", "open", "acme")
        assert "plan starter at once" in cli("plan", "change", "acme", "starter").stdout
        assert "plan free from 2" in cli("plan", "cancel", "acme").stdout
        assert "plan_unchanged" in cli("plan", "change", "acme", "free", code=4).stdout

        place = ("hold", "place", "acme")
        placed = cli(*place, "job", "image_generation", *GENERATION, "--images", "8").stdout
        assert "16 credits held for 8 image(s)" in placed
        assert "required 485, available 484" in cli(*place, "big", "--credits", "485", code=4).stdout
        fits = (
            *place,
            "batch",
            "image_analysis",
            "--images",
            "900",
            "--partial",
            "--seconds",
            "60",
            "--json",
        )
        assert answers(cli(*fits))[0]["hold"]["images"] == 484
        assert "given back" in cli("hold", "release", "acme", "batch").stdout
        done = ("hold", "capture", "acme", "job", "image_generation", *GENERATION, "--images", "5")
        [captured] = answers(cli(*done, "--event-id", "e1", "--json"))
        assert (captured["hold"]["credits"], captured["balance_after"]) == ("10", "490")
        assert "hold_captured" in cli(*done, code=4).stdout
        usage = ("send", "image_generation", "--account", "acme", *GENERATION, "--images", "5", "--id", "e1")
        assert "nothing charged again" in cli(*usage).stdout

        # Of a capture among lines the command's answer is shown, not the record of its usage.
        cli("hold", "place", "acme", "line", "background_removal")
        event = removal("acme", "e3")
        line_usage = {name: event[name] for name in ("type", "id", "source", "time", "data")}
        line = json.dumps(command_of(settings, "capture", hold_id="line", usage=line_usage))
        [answer] = answers(cli("send", "-", "--json", stdin=line))
        assert (answer["command_id"], answer["hold"]["credits"]) == ("capture", "2")

        configure = ("account", "configure", "acme")
        assert "balance 488, available 588" in cli(*configure, "--overage-ceiling", "100").stdout
        assert "available" not in cli(*configure, "--protection-on").stdout
        assert "balance 0" in cli("account", "close", "acme").stdout
        assert "account_closed" in cli(*usage[:-1], "e2", code=4).stdout


def test_lines_are_answered_in_their_order_whatever_they_hold(cli: Cli, settings: Settings) -> None:
    with workers(settings, "worker") as [worker]:
        write_settings(settings)
        wait_until_held(settings, worker)
        cli("account", "open", "acme")
        events = [
            json.dumps(removal("acme" if number % 7 else "stranger", f"e{number}")) for number in range(20)
        ]
        sent = answers(cli("send", "-", "--json", stdin="\n".join([*events, "no json", events[1]]), code=1))
    assert [each["event_id"] for each in sent] == [f"e{number}" for number in range(20)] + ["", "e1"]
    assert [each["outcome"] for each in sent[:2]] == ["dead_letter", "metered"]
    assert [each["outcome"] for each in sent[-2:]] == ["dead_letter", "duplicate"]


def test_without_a_worker_the_event_is_safe_and_the_wait_ends(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDITSTREAM_CLIENT__OUTCOME_TIMEOUT_SECONDS", "1")
    usage = ("send", "background_removal", "--account", "acme", "--id", "e1")
    [sent] = answers(cli(*usage, "--no-wait", "--json"))
    assert (sent["event_id"], sent["outcome"], sent["offset"]) == ("e1", "published", 0)
    waited = cli(*usage, code=124)
    assert "1 of 1 outcomes did not come" in waited.stderr


def test_an_event_that_no_topic_takes_is_refused_at_once(cli: Cli) -> None:
    # Random digits: the broker measures what is left after compression.
    event = {**removal("acme", "e1"), "padding": secrets.token_hex(1_000_000)}
    refused = cli("send", "-", "--no-wait", stdin=json.dumps(event), code=1)
    assert "the broker refused an event" in refused.stderr


def test_people_see_balances_usage_and_reasons(cli: Cli, settings: Settings) -> None:
    small_pipeline.run(settings, log_of_an_account(settings))
    [balance] = answers(cli("balance", "acme", "--json"))
    assert (balance["available"], [grant["remaining"] for grant in balance["grants"]]) == ("30", ["30"])
    assert "Newest ledger entries" in cli("account", "show", "acme").stdout
    [usage] = answers(cli("usage", "acme", "--json"))
    assert usage["usage"] == [
        {
            "service": "background_removal",
            "metered": 1,
            "denied": 1,
            "duplicates": 1,
            "images": 10,
            "credits": "20",
        }
    ]
    assert answers(cli("usage", "acme", "--to", "2020-01-01T00:00:00Z", "--json"))[0]["usage"] == []
    charged = cli("explain", "e1").stdout
    for words in ("2 × 10 image(s) = 20 credits", "balance   50 → 30", "ledger    entry 2", "nothing again"):
        assert words in charged
    assert "insufficient_credits: the account had less than this costs" in cli("explain", "e2").stdout
    assert "expected an integer from 1 to" in cli("explain", "e3").stdout
    assert "ledger entry  grant" in cli("explain", "open-acme").stdout
    assert "creditstream account open nobody" in cli("balance", "nobody", code=3).stderr
    cli("explain", "e1", "--account", "nobody", code=3)


def test_people_see_holds_plans_and_statements(cli: Cli, settings: Settings) -> None:
    used, captured = removal("acme", "e1", images=10), removal("acme", "e2", images=2)
    usage = {name: captured[name] for name in ("type", "id", "source", "time", "data")}
    log = [
        command_of(settings, "open", plan="free"),
        used,
        command_of(settings, "change_plan", plan="pro"),
        command_of(settings, "change_plan", command_id="down", plan="starter"),
        command_of(settings, "hold", command_id="h1", hold_id="job-1", credits="7.5"),
        command_of(settings, "hold", command_id="h2", hold_id="job-2", credits="10"),
        command_of(settings, "capture", hold_id="job-2", usage=usage),
    ]
    small_pipeline.run(settings, [LoadRecord(*cast("tuple[bytes, bytes]", encode(each)), ()) for each in log])
    [balance] = answers(cli("balance", "acme", "--json"))
    assert [balance[name] for name in ("posted", "held", "available", "plan", "next_plan", "status")] == [
        "2476", "7.5", "2468.5", "pro", "starter", "open",
    ]  # fmt: skip
    shown = cli("balance", "acme").stdout
    for words in ("(7.5 of 2476 held)", "plan pro (then starter)", "4 used", "job-1"):
        assert words in shown
    [statement] = answers(cli("statement", "acme", "--last", "1", "--json"))[0]["statements"]
    amounts = [
        statement[name] for name in ("plan", "opening", "granted", "used", "expired", "voided", "closing")
    ]
    assert amounts == ["free", "0", "50", "20", "0", "0", "30"]
    assert "closing" in cli("statement", "acme").stdout
    assert "2 × 2 image(s) = 4 credits" in cli("explain", "e2").stdout
    cli("statement", "nobody", code=3)


def test_people_see_overage_and_alerts(cli: Cli, settings: Settings) -> None:
    log = [
        command_of(settings, "open", plan="starter"),
        command_of(settings, "configure", overage_ceiling="100", alert_thresholds=[90]),
        removal("acme", "e1", images=245),
        removal("acme", "e2", images=10),
        removal("acme", "e3", images=100),
    ]
    small_pipeline.run(settings, [LoadRecord(*cast("tuple[bytes, bytes]", encode(each)), ()) for each in log])
    shown = cli("balance", "acme").stdout
    assert "90 credits available" in shown
    assert "overage 10 of at most 100 a period (protection off)" in shown
    charged = cli("explain", "e2").stdout
    for words in (
        "paid by   overage: 10 beyond all grants",
        "balance   10 → 0",
        "ledger    entry 3 of the account: overage 10",
        "ledger    entry 4 of the account: usage -20",
    ):
        assert words in charged
    assert [line.split()[0] for line in charged.splitlines()].count("e2") == 1, (
        "its entries are told with the charge"
    )
    assert "limit reached" in cli("alerts", "acme").stdout
    [told] = answers(cli("alerts", "acme", "--json"))
    assert [(each["threshold"], each["used"], each["base"]) for each in told["alerts"]] == [
        (None, "510", "500"),
        (90, "490", "500"),
    ]
    cli("alerts", "nobody", code=3)


def test_a_statement_says_what_overage_costs(cli: Cli, settings: Settings) -> None:
    log = [
        command_of(settings, "open", plan="starter"),
        command_of(settings, "configure", overage_ceiling="100"),
        removal("acme", "e1", images=255),
        command_of(settings, "close"),
    ]
    small_pipeline.run(settings, [LoadRecord(*cast("tuple[bytes, bytes]", encode(each)), ()) for each in log])
    assert "0.3 EUR (10 × 0.03)" in cli("statement", "acme").stdout
    [statement] = answers(cli("statement", "acme", "--json"))[0]["statements"]
    names = ("granted", "overage", "used", "closing", "overage_price", "overage_amount", "currency")
    assert [statement[name] for name in names] == ["500", "10", "510", "0", "0.03", "0.3", "EUR"]
    assert "No alert of" not in cli("alerts", "acme").stderr


def test_the_analyst_asks_in_three_formats_and_changes_nothing(cli: Cli, settings: Settings) -> None:
    small_pipeline.run(settings, log_of_an_account(settings))
    query = "SELECT service, sum(credits) AS credits FROM metered_records_v1 GROUP BY service"
    assert "20.000000" in cli("sql", query).stdout
    assert cli("sql", query, "--format", "csv").stdout == '"service","credits"\n"background_removal",20\n'
    assert answers(cli("sql", query, "--json"))[0]["service"] == "background_removal"
    assert "Syntax error" in cli("sql", "SELEC 1", code=1).stderr
    assert "Not enough privileges" in cli("sql", "TRUNCATE TABLE metered_records", code=1).stderr


@pytest.mark.usefixtures("cli")
def test_tail_shows_usage_as_it_is_answered_until_ctrl_c(settings: Settings) -> None:
    # A child of a background job would be born with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "tail", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(settings),
    ) as tail:
        signal.signal(signal.SIGINT, before)
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert b"Waiting" in tail.stderr.readline()
        small_pipeline.run(settings, log_of_an_account(settings))
        seen = [json.loads(tail.stdout.readline()) for _ in range(4)]
        tail.send_signal(signal.SIGINT)
        assert tail.wait(15) == 130
    assert sorted(each["event_id"] for each in seen) == ["e1", "e1", "e2", "e3"]


def test_reconcile_agrees_and_a_deleted_row_is_exit_code_6(cli: Cli, settings: Settings) -> None:
    small_pipeline.run(settings, log_of_an_account(settings))
    [report] = answers(cli("reconcile", "--json"))
    assert (report["equal"], report["charged"]) == (True, "20")
    stack.execute(
        settings.clickhouse,
        f"DELETE FROM {settings.clickhouse.database}.metered_records WHERE event_id = 'e2'",
    )
    found = cli("reconcile", "--wait", "1", code=6)
    assert "row_missing in metered_records: acme e2" in found.stdout


def removal(account: str, event_id: str, *, images: object = 1) -> dict[str, Any]:
    return usage_event(
        "background_removal",
        account=account,
        event_id=event_id,
        source="/services/test",
        time=now_text(),
        data={"images": images},
    )


def command_of(settings: Settings, name: str, *, command_id: str = "", **data: object) -> dict[str, Any]:
    key = command_key(settings)
    assert key is not None
    command = unsigned_command(
        name, account="acme", command_id=command_id or name, source="/test", time=now_text(), data=data
    )
    return signed(command, key)


def log_of_an_account(settings: Settings) -> list[LoadRecord]:
    """Opened with 50 credits; 20 used, sent twice; 46 denied; one malformed."""
    key = command_key(settings)
    assert key is not None
    opened = unsigned_command(
        "open", account="acme", command_id="open-acme", source="/test", time=now_text(), data={"plan": "free"}
    )
    used = removal("acme", "e1", images=10)
    events = [
        signed(opened, key),
        used,
        used,
        removal("acme", "e2", images=23),
        removal("acme", "e3", images=0),
    ]
    return [LoadRecord(*cast("tuple[bytes, bytes]", encode(event)), ()) for event in events]
