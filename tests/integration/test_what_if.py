"""What-if through real Kafka: the recorded log, a live table, and differences worked out by hand."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from pipeline.kafka import TopicPartition, admin, topic_name
from pipeline.settings import KafkaSettings, Settings
from schemas.topics import ACCOUNT_EVENTS
from tests.builders import catalog, flat_book, open_account, usage
from tests.stream_workers import Feed, Outcomes, streaming, wait_until_held, workers

pytestmark = pytest.mark.integration
Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def deployment(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return lived(kafka, tmp_path_factory.mktemp("lived"))


def lived(kafka: KafkaSettings, home: Path) -> Settings:
    """Two accounts: `a` on starter (500 credits) used 10 + 5 + 2, `b` on free (50) used 30 + 20 and was denied 1."""
    settings = streaming(kafka, home)
    feed, outcomes = Feed(settings.kafka), Outcomes(settings.kafka)
    at = time.time_ns() // 1_000_000

    def read(account: str, event_id: str, images: int) -> None:
        feed.send(usage("image_analysis", account=account, event_id=event_id, images=images, at=at))

    feed.send(open_account("starter", account="a", at=at), open_account("free", account="b", at=at))
    read("a", "ten", 10)
    size = {"input_width": 512, "input_height": 512, "scale": 4}
    feed.send(usage("upscaling", size, account="a", event_id="five", at=at))
    feed.send(usage("background_removal", account="a", event_id="two", at=at))
    read("a", "ten", 10)  # A resend.
    read("b", "thirty", 30)
    read("b", "twenty", 20)
    read("b", "one", 1)
    feed.flush()
    with workers(settings, "a") as running:
        wait_until_held(settings, *running)
        outcomes.wait_for(feed.sent)
    return settings


@pytest.fixture
def cli(deployment: Settings, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(deployment.home))

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["what-if", *arguments])
        assert result.exit_code == code, (arguments, result.output, result.exception)
        return result

    return run


def file(folder: Path, content: dict[str, Any]) -> str:
    path = folder / f"{content['version']}.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_the_same_prices_and_plans_differ_by_zero_and_end_as_the_live_table_stands(cli: Cli) -> None:
    told = json.loads(cli("--price-book", "2026-01", "--plans", "2026-01", "--json").stdout)

    assert told["as_recorded_equals_live_table"] is True
    assert (told["records"], told["accounts"], told["difference"], told["changed"]) == (9, 2, "0", [])
    assert told["before"] == told["after"]
    assert (told["before"]["used"], told["before"]["denied"]) == ("67", 1)


def test_another_price_gives_the_difference_that_was_worked_out_by_hand(cli: Cli, tmp_path: Path) -> None:
    book = file(tmp_path, flat_book("dear", effective_from=0, image_analysis="1.5"))
    told = json.loads(cli("--price-book", book, "--json").stdout)

    # a: 10 × 1.5 + 5 + 2 = 22 instead of 17. b: 30 × 1.5 = 45 of 50, 20 × 1.5 = 30 denied, 1.5 paid: 46.5, not 50.
    a, b = sorted(told["changed"], key=lambda each: str(each["account_id"]))
    assert (a["before"]["used"], a["after"]["used"], a["difference"]) == ("17", "22", "5")
    assert (b["before"]["used"], b["after"]["used"], b["difference"]) == ("50", "46.5", "-3.5")
    assert (b["before"]["denied"], b["after"]["denied"]) == (1, 1)
    assert b["after"]["limit_at"] <= b["before"]["limit_at"]
    assert (told["before"]["used"], told["after"]["used"], told["difference"]) == ("67", "68.5", "1.5")


def test_another_plan_gives_the_difference_that_was_worked_out_by_hand(cli: Cli, tmp_path: Path) -> None:
    plans = file(tmp_path, catalog("mean", effective_from=0, free="20"))
    told = json.loads(cli("--plans", plans, "--replaces", "2026-01", "--json").stdout)

    # b: 30 of 20 denied, then 20 of 20, then 1 of 0 denied.
    (b,) = told["changed"]
    assert (b["account_id"], b["difference"], b["after"]["denied"]) == ("b", "-30", 2)
    words = cli("--plans", plans).stdout
    assert "difference -30" in words
    assert "The run as recorded ends as the live table stands" in words


def test_a_version_that_counts_from_later_on_changes_nothing_before(cli: Cli, tmp_path: Path) -> None:
    book = file(tmp_path, flat_book("dear", effective_from=0, image_analysis="9"))
    told = json.loads(cli("--price-book", book, "--since", "2099-01-01T00:00:00Z", "--json").stdout)

    assert (told["difference"], told["changed"]) == ("0", [])


def test_what_cannot_be_compared_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli(code=2)
    cli("--price-book", "nobody", code=3)
    cli("--price-book", "2026-01", "--replaces", "nobody", code=4)
    cli("--plans", file(tmp_path, catalog("less", effective_from=0, without="pro")), code=4)


def test_a_log_that_was_cut_is_refused(
    cli: Cli, kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = lived(kafka, tmp_path / "cut")
    monkeypatch.setenv("CREDITSTREAM_HOME", str(cut.home))
    topic, client = topic_name(cut.kafka, ACCOUNT_EVENTS), admin(cut.kafka)
    everything = [TopicPartition(topic, each, -1) for each in range(cut.kafka.partitions)]
    for future in client.delete_records(everything).values():
        future.result(30)
    assert "does not reach back to its beginning" in cli("--price-book", "2026-01", code=4).stderr
