"""What people read of an answer, and with which exit code a command ends."""

import json
from typing import Any

import pytest

from pipeline.cli.answers import answer_of, exit_of, write_words
from pipeline.cli.exits import Exit
from pipeline.client.outcomes import Outcome
from tests.contract.examples import example


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (
            "hold",
            0,
            "16 credits held for 8 image(s) until 2026-11-23T12:15:10.000Z, balance 50, available 34",
        ),
        ("capture", 0, "10 credits charged for 5 image(s), balance 40"),
        ("capture_repeated", 0, "10 credits charged, balance 40"),
        ("hold_refused", 4, "required 80, available 40, resets at 2026-12-23T12:00:00.000Z, balance 40"),
        ("change_plan", 0, "plan starter from 2026-12-23T12:00:00.000Z, balance 40"),
        (
            "topup_declined",
            0,
            "top-up order 7 declined, no other before 2026-11-23T14:00:20.000Z, balance 40",
        ),
        ("refused", 4, "unknown_grant: expected a live grant, got 'nothing', balance 137"),
        ("duplicate", 0, "open  balance 137"),
    ],
)
def test_an_answer_says_what_was_done_or_what_is_missing(
    name: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome("command_result", example(f"command_result.v1/valid/{name}"))
    write_words(answer_of(outcome))
    assert words in capsys.readouterr().out
    assert exit_of(outcome) == Exit(code)


def test_a_plan_that_changes_at_once_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    record: dict[str, Any] = json.loads(json.dumps(example("command_result.v1/valid/change_plan")))
    record["plan_change"] |= {"plan": "pro", "effective_at": record["accepted_at"]}
    write_words(answer_of(Outcome("command_result", record)))
    assert "plan pro at once, balance 40" in capsys.readouterr().out
