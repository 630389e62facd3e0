"""A line of the log: for people and for machines, with ids and nothing of a person's."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.logs import FIELDS, VALUE_LENGTH_MAX, LineFormatter
from pipeline.settings import LogSettings
from tests.deployment import DEPLOY, our_services


class Lines(logging.Handler):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(LogSettings.model_validate({"format": kind})))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Log:
    """One logger, heard by both formats."""

    def __init__(self) -> None:
        self.logger = logging.getLogger("pipeline.test_logs")
        self.logger.propagate = False
        self._both = [Lines("json"), Lines("text")]
        self.logger.handlers = list(self._both)

    def told(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._both[0].lines[-1])
        return said

    @property
    def text(self) -> str:
        return self._both[1].lines[-1]


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.logger.handlers = []


def test_a_line_for_machines_has_time_level_logger_message_and_ids(log: Log) -> None:
    log.logger.warning("%d of %d", 1, 2, extra={"account": "acme", "partition": 0, "offset": 12})
    told = log.told()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.pop("time"))
    assert told == {
        "level": "warning",
        "logger": "pipeline.test_logs",
        "message": "1 of 2",
        "account": "acme",
        "partition": 0,
        "offset": 12,
    }


def test_a_line_for_people_has_the_same_ids(log: Log) -> None:
    log.logger.warning("a dead letter", extra={"account": "acme", "offset": 12})
    assert log.text.endswith("WARNING pipeline.test_logs a dead letter account=acme offset=12")


def test_a_traceback_is_a_part_of_its_line(log: Log) -> None:
    try:
        int("expected\na number")
    except ValueError:
        log.logger.exception("failed", extra={"request_id": "r-1"})
    assert "ValueError: invalid literal" in log.told()["exception"]
    assert log.text.splitlines()[0].endswith("failed request_id=r-1")
    assert log.text.splitlines()[-1].startswith("ValueError")


def test_what_has_no_name_in_the_list_is_not_said(log: Log) -> None:
    log.logger.info("", extra={"mail": "someone@example.org"})
    log.logger.warning("hello", extra={"mail": "someone@example.org", "color_message": "hello"})
    assert "someone" not in log.text
    assert set(log.told()) == {"time", "level", "logger", "message"}


def test_nobodys_id_begins_a_line_of_its_own_or_fills_the_log(log: Log) -> None:
    log.logger.warning("a dead letter", extra={"event_id": 'x"\n2026 CRITICAL', "account": "ä" * 1000})
    assert len(log.text.splitlines()) == 1
    assert r'event_id="x\"\n2026 CRITICAL"' in log.text
    assert log.told()["account"] == "ä" * VALUE_LENGTH_MAX


def test_the_fields_are_those_of_the_list() -> None:
    of_lines, _, _ = (DEPLOY / "logs.md").read_text().partition("## Traces")
    rows = re.findall(r"^\| `(\w+)` \|", of_lines, re.MULTILINE)
    assert tuple(rows) == ("time", "level", "logger", "message", *FIELDS, "exception")


@pytest.mark.parametrize("name", our_services())
def test_deployed_programs_log_for_machines(name: str) -> None:
    service = our_services()[name]
    if service["restart"] != "no":
        assert service["environment"]["CREDITSTREAM_LOG__FORMAT"] == "json"
