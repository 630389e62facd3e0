"""`creditstream price-book` without a server: files are checked, compared and used for prices."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.app import app
from tests.builders import NOON, flat_book

SOON = NOON
PRICED = '{"id":"1","service":"image_analysis","data":{}}\n'


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(tmp_path))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return written(tmp_path, flat_book("new", effective_from=SOON, image_analysis="3"))


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "book.json"
    path.write_text(json.dumps(content, indent=4))
    return path


def cli(*arguments: str, code: int = 0, stdin: str = "") -> Result:
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exit_code == code, (arguments, result.output, result.exception)
    return result


def test_a_valid_file_says_its_version_and_hash_whatever_its_white_space(book: Path) -> None:
    told = json.loads(cli("price-book", "validate", str(book), "--json").stdout)
    book.write_text(json.dumps(json.loads(book.read_text())))

    assert (told["valid"], told["version"]) == (True, "new")
    assert json.loads(cli("price-book", "validate", str(book), "--json").stdout) == told


def test_an_invalid_file_is_refused_with_the_place_of_the_fault(tmp_path: Path) -> None:
    content = flat_book("new", effective_from=SOON)
    content["services"]["upscaling"]["price"]["least"] = "10"
    result = cli("price-book", "validate", str(written(tmp_path, content)), code=4)

    assert "/services/upscaling/price" in result.stderr
    assert "expected least <= most" in result.stderr


def test_two_books_are_compared_price_by_price(book: Path) -> None:
    changes = json.loads(cli("price-book", "diff", "2026-01", str(book), "--json").stdout)

    assert {"where": "/services/image_analysis/price/credits", "before": "1", "after": "3"} in changes
    assert {each["where"] for each in changes} == {
        "/version",
        "/effective_from",
        "/services/image_analysis/price/credits",
    }


@pytest.mark.parametrize(("name", "credits_"), [("2026-01", "1"), ("", "3")])
def test_usage_is_priced_by_the_book_that_is_named(book: Path, name: str, credits_: str) -> None:
    result = cli("price", "--book", name or str(book), stdin=PRICED)

    assert json.loads(result.stdout)["credits"] == credits_


def test_the_release_says_what_a_new_deployment_begins_with() -> None:
    told = json.loads(cli("price-book", "list", "--bundled", "--json").stdout)

    assert told["origin"] == "release"
    assert [each["version"] for each in told["versions"]] == ["2026-01"]


def test_a_book_that_begins_too_soon_is_not_even_sent(book: Path) -> None:
    assert "s more until all partitions have it" in cli(
        "price-book", "publish", str(book), "--at", "2020-01-01T00:00:00Z", code=4
    ).stderr.replace("\n", " ")
