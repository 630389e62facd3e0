"""A load as an input file: one JSON object a line; bytes that are no UTF-8 text stand in base64."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import orjson

from pipeline.load.record import LoadRecord


def write_records(records: Iterable[LoadRecord], out: BinaryIO) -> int:
    """Write them in order; returns how many."""
    count = 0
    for record in records:
        out.write(orjson.dumps(_line(record), option=orjson.OPT_APPEND_NEWLINE))
        count += 1
    return count


def read_records(lines: Iterable[bytes]) -> Iterator[LoadRecord]:
    """The records as they were written, byte by byte."""
    for line in lines:
        fields: dict[str, Any] = orjson.loads(line)
        headers = tuple((name, _bytes({"value": value})) for name, value in fields["headers"])
        key = None if "key" not in fields and "key_base64" not in fields else _bytes(fields, "key")
        yield LoadRecord(key, _bytes(fields), headers)


def _line(record: LoadRecord) -> dict[str, Any]:
    headers = [(name, value.decode()) for name, value in record.headers]
    key = {} if record.key is None else _text("key", record.key)
    return {**key, **_text("value", record.value), "headers": headers}


def _text(name: str, content: bytes) -> dict[str, str]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(content).decode()}


def _bytes(fields: dict[str, Any], name: str = "value") -> bytes:
    text: str | None = fields.get(name)
    return b64decode(fields[f"{name}_base64"]) if text is None else text.encode()
