"""`creditstream price`: one answer a line, in order, by the stream's rules."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITSTREAM_HOME", str(tmp_path))


def priced(*lines: object, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    result = CliRunner().invoke(app, ["price", *options], input=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def usage(service: str, **data: object) -> dict[str, Any]:
    return {"id": service, "service": service, "data": data}


@pytest.mark.parametrize(
    ("event", "credits"),
    [
        pytest.param(
            usage("image_generation", quality="medium", width=1024, height=1024), "1", id="1 medium"
        ),
        pytest.param(
            usage("image_generation", quality="high", width=1024, height=1024, images=4), "8", id="4 high"
        ),
        pytest.param(usage("background_removal", images=10), "20", id="background x10"),
        pytest.param(usage("image_analysis", languages=["en", "de"]), "1", id="receipt"),
        pytest.param(usage("upscaling", input_width=512, input_height=512, scale=4), "5", id="upscale by 4"),
        pytest.param(usage("transparent_background"), "1", id="transparent alone"),
    ],
)
def test_the_product_pages_examples_cost_what_the_page_says(event: dict[str, Any], credits: str) -> None:
    assert priced(event) == [{"id": event["id"], "credits": credits}]


def test_every_line_is_answered_in_order_and_a_bad_one_names_its_reason_and_line() -> None:
    answers = priced(
        {"id": "a", "service": "background_removal", "data": {}},
        "{",
        "",
        {"id": "b", "service": "background_removal", "data": {"images": True}},
        "[]",
        {"id": "c", "service": "dreaming", "data": {}},
        {"id": "d", "type": "org.apimage.usage.background_removal.v1", "data": {}},
    )
    assert [(each["id"], each["credits"], each.get("reason"), each.get("line")) for each in answers] == [
        ("a", "2", None, None),
        (None, None, "malformed_json", 2),
        ("b", None, "invalid_data", None),
        (None, None, "malformed_json", 5),
        ("c", None, "unknown_type", None),
        ("d", "2", None, None),
    ]


def test_an_envelope_attribute_that_is_there_must_be_right() -> None:
    assert priced({"id": 7, "service": "background_removal", "data": {}})[0]["reason"] == "invalid_envelope"


def test_a_type_that_is_no_text_is_an_unknown_type() -> None:
    assert priced({"id": "a", "type": [], "data": {}})[0]["reason"] == "unknown_type"


def test_no_price_book_is_in_force_before_the_first_one() -> None:
    answers = priced(
        {
            **usage("background_removal"),
            "accepted_at": "1969-12-31T23:59:59Z",
            "time": "2026-01-01T00:00:00Z",
        },
        {**usage("background_removal"), "accepted_at": -1},
        usage("background_removal"),
    )
    assert [each.get("reason") for each in answers] == ["unpriced", "unpriced", None]


def test_explain_adds_the_steps() -> None:
    [answer] = priced(
        usage("image_generation", quality="high", width=4096, height=4096, transparent_background=True),
        options=("--explain",),
    )
    assert [(step["rule"], step["credits_per_image"]) for step in answer["steps"]] == [
        ("quality_by_size", "9"),
        ("transparent_background", "10"),
    ]


def test_a_wrong_instant_or_a_missing_file_is_told_with_its_code() -> None:
    wrong = CliRunner().invoke(app, ["price", "--at", "yesterday"], input="")
    missing = CliRunner().invoke(app, ["price", "no-such-file.ndjson"])
    assert (wrong.exit_code, missing.exit_code) == (2, 3)
    assert "yesterday" in wrong.stderr
    assert "no-such-file.ndjson" in missing.stderr
    assert wrong.stdout == missing.stdout == ""
