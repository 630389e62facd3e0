"""What the programs log: a line of text for people, a line of JSON for machines. One formatter for all of them.

A line that is about one record says which in `extra={...}`, by the names of `FIELDS` and no others: what a vendor adds
to its lines stays out, and so does whatever could be a person's. `deploy/logs.md` has the list.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.settings import LogSettings
from pipeline.tracing import current_trace_id

FIELDS: Final = (
    "account",
    "event_id",
    "command_id",
    "trace_id",
    "topic",
    "partition",
    "offset",
    "reason",
    "table",
    "attempt",
    "delivery_id",
    "order_id",
    "action",
    "key_id",
    "request_id",
)
"""What a line may say beside its words. Ids of accounts and records; no name, no address, no content."""
VALUE_LENGTH_MAX: Final = 256
"""Ids are shorter; what a producer wrote as one may be anything."""


class LineFormatter(logging.Formatter):
    """One line for each thing that happened; in JSON also its traceback is part of the line."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._is_json = settings.format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC with milliseconds, level, logger, message, then the fields that the line has."""
        return self._as_json(record) if self._is_json else super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's own name)
        """The first line of text: a traceback comes after it."""
        named = [f" {name}={_word(value)}" for name, value in _fields(record).items()]
        return super().formatMessage(record) + "".join(named)

    def _as_json(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def log_to_stderr(settings: LogSettings, level: int = logging.INFO) -> None:
    """Whoever logs in this process: we, Faust, uvicorn. Once, at its beginning."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(settings))
    logging.basicConfig(level=level, handlers=[handler])


def _fields(record: logging.LogRecord) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for name in FIELDS:
        value = getattr(record, name, None)
        if isinstance(value, int):
            found[name] = value
        elif value:
            found[name] = str(value)[:VALUE_LENGTH_MAX]
    trace_id = current_trace_id()
    if trace_id:
        found.setdefault("trace_id", trace_id)
    return found


def _word(value: str | int) -> str:
    """As it is where it is one plain word, else as JSON: nobody's id begins a line of its own."""
    text = str(value)
    return text if text.isprintable() and not set(' "=') & set(text) else json.dumps(text)
