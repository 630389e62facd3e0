"""Charges are taken back by their records: real Kafka, sink, ClickHouse, and a worker that is killed in between."""

import json
import signal
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from pipeline.admin.migrate import migrate
from pipeline.admin.topics import ensure_topics
from pipeline.cli.app import app
from pipeline.clickhouse import open_client
from pipeline.reconcile.run import reconcile
from pipeline.settings import Settings
from tests.integration.sinking import sinks
from tests.integration.test_cli import write_settings
from tests.stack import wait_until
from tests.stream_workers import wait_until_held, workers

pytestmark = pytest.mark.integration
Cli = Callable[..., str]


def test_charges_are_taken_back_and_rated_again_by_the_command_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topics(settings)
    migrate(settings)
    monkeypatch.setenv("CREDITSTREAM_HOME", str(settings.home))

    def cli(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, (arguments, result.output, result.exception)
        return result.stdout

    with sinks(settings), workers(settings, "first") as [first]:
        write_settings(settings)
        wait_until_held(settings, first)
        cli("account", "open", "acme", "--plan", "starter")
        for number in range(3):
            cli("send", "image_analysis", "--account", "acme", "--images", "20", "--id", f"e{number}")
        wait_until("the charges are stored", lambda: stored(settings) == 3, 30)
        dry = json.loads(cli("reverse", "e1", "--credits", "5", "--dry-run", "--json"))
        assert (dry["charged"], dry["left"], dry["would_take_back"]) == ("20", "20", "5")
        told = json.loads(cli("reverse", "e1", "--credits", "5", "--id", "r1", "--json"))
        assert (told["reversal"]["returned"], told["balance_after"]) == ("5", "445")
        first.send(signal.SIGKILL)
        first.wait_for_end()
        with workers(settings, "second") as [second]:
            write_settings(settings)
            wait_until_held(settings, second, seconds_max=60)
            again = json.loads(cli("reverse", "e1", "--credits", "5", "--id", "r1", "--json"))
            assert (again["outcome"], again["balance_after"]) == ("duplicate", "445")
            rest = json.loads(cli("reverse", "e1", "--json"))
            assert (rest["reversal"]["credits"], rest["balance_after"]) == ("15", "460")
            assert "already_reversed" in cli("reverse", "e1", code=4)
            dry = json.loads(cli("rerate", "e2", "--price-book", "2026-01", "--dry-run", "--json"))
            assert (dry["would_charge"], dry["difference"]) == ("20", "0")
            assert "charged 20 instead" in cli("rerate", "e2", "--price-book", "2026-01")
            cli("reverse", "nobody", code=3)
            wait_until("the corrections are stored", lambda: stored(settings) == 6, 30)
            assert "taken back" in cli("explain", "e1")
            used = json.loads(cli("usage", "acme", "--json"))["usage"]
            assert [each["credits"] for each in used] == ["40"]
        report = reconcile(settings)
        assert report.differences == ()
        assert report.charged_micros == 40_000_000


def stored(settings: Settings) -> int:
    """Metered records in ClickHouse."""
    (count,) = open_client(settings.clickhouse).query("SELECT count() FROM metered_records").result_rows[0]
    return int(count)
