"""The command line as such: it answers fast, talks on stderr, and ends with the codes it documents."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import exits
from pipeline.cli.app import app
from pipeline.cli.exits import CliError, Exit, guarded

HEAVY = (
    "confluent_kafka",
    "clickhouse_connect",
    "faust",
    "aiokafka",
    "chdb",
    "pydantic_settings",
    "rich.table",
)


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(tmp_path))


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, pipeline.cli.app; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [[], *[[each.name or ""] for each in app.registered_commands]])
def test_every_help_documents_the_exit_codes(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Exit codes: 0 ok" in result.output


def test_every_command_of_a_group_documents_the_exit_codes() -> None:
    commands = [
        (group.name or "", command.name or "")
        for group in app.registered_groups
        for command in (group.typer_instance.registered_commands if group.typer_instance else ())
    ]
    assert {("account", "close"), ("plan", "change"), ("hold", "place")} <= set(commands)
    for command in commands:
        assert "Exit codes: 0 ok" in CliRunner().invoke(app, [*command, "--help"]).output


def test_the_plans_are_listed_without_a_server() -> None:
    result = CliRunner().invoke(app, ["plan", "list", "--bundled", "--json"])
    plans = {each["plan"]: each["monthly_credits"] for each in json.loads(result.stdout)["plans"]}
    assert (plans["free"], plans["pro"]) == ("50", "2500")


def test_the_version_is_the_distributions() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("creditstream 0.")


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        pytest.param(CliError(Exit.NOT_FOUND, "nothing there"), 3, id="an expected error has its code"),
        pytest.param(KeyboardInterrupt(), 130, id="Ctrl-C"),
        pytest.param(exits.Terminated(), 143, id="SIGTERM"),
    ],
)
def test_a_command_ends_with_the_code_of_what_ended_it(raised: BaseException, code: int) -> None:
    def command() -> None:
        raise raised

    with pytest.raises(typer.Exit) as ended:
        guarded(command)()
    assert ended.value.exit_code == code


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def command() -> None:
        raise LookupError("ours")

    with pytest.raises(LookupError):
        guarded(command)()


def test_an_unusable_setting_is_named_as_the_environment_spells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_KAFKA__PARTITIONS", "none")
    result = CliRunner().invoke(app, ["price"], input="")
    assert result.exit_code == 2
    assert "CREDITSTREAM_KAFKA__PARTITIONS" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["send", "dreaming", "--account", "acme"], "image_generation", id="an unknown service"),
        pytest.param(["send", "background_removal"], "--account", id="no account"),
        pytest.param(["send", "image_generation", "--account", "acme"], "quality", id="no quality"),
        pytest.param(["account", "grant", "acme", "many"], "credits", id="credits that are no number"),
        pytest.param(["account", "open", "acme"], "command key", id="no key to sign with"),
        pytest.param(["account", "configure", "acme"], "--overage-ceiling", id="settings that set nothing"),
        pytest.param(
            ["account", "configure", "acme", "--overage-ceiling", "5", "--protection-on"],
            "--protection-on",
            id="overage and none",
        ),
        pytest.param(
            ["account", "configure", "acme", "--thresholds", "100,80"], "rising", id="thresholds that fall"
        ),
        pytest.param(
            ["account", "configure", "acme", "--thresholds", "80%"],
            "percents",
            id="a threshold that is no number",
        ),
        pytest.param(
            ["account", "configure", "acme", "--overage-ceiling", "0"],
            "overage_ceiling",
            id="a ceiling of zero",
        ),
        pytest.param(
            ["account", "grant", "acme", "5", "--grant-id", "monthly:now"],
            "grant_id",
            id="an id of the rules",
        ),
        pytest.param(["hold", "place", "acme", "job"], "--credits", id="a hold of nothing"),
        pytest.param(
            ["hold", "place", "acme", "job", "image_analysis", "--credits", "5"],
            "either",
            id="a hold of usage and of an amount",
        ),
        pytest.param(
            ["hold", "place", "acme", "job", "--credits", "5", "--images", "2"],
            "either",
            id="images of what?",
        ),
        pytest.param(["hold", "place", "acme", "job", "upscaling"], "output-width", id="a hold of no size"),
        pytest.param(["hold", "capture", "acme", "a job", "image_analysis"], "hold_id", id="an unsafe name"),
    ],
)
def test_a_slip_is_told_before_anything_is_sent(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stdout == ""


def test_an_absent_broker_is_code_5_with_the_next_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("CREDITSTREAM_CLIENT__REQUEST_TIMEOUT_SECONDS", "1")
    result = CliRunner().invoke(app, ["send", "background_removal", "--account", "acme"])
    assert result.exit_code == 5, result.output
    assert "creditstream up" in result.stderr
