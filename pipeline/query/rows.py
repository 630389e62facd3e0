"""Reads rows of the views as they stand on the wire: decimal strings, instants in RFC 3339, nested JSON parsed."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from pipeline.clickhouse import Client

AS_ON_THE_WIRE: Final = {
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_decimal_trailing_zeros": 0,
    "date_time_output_format": "iso",
}


def rows(client: Client, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """The rows that the query gives. Parameters are bound by the server: `{account:String}`."""
    raw = client.raw_query(sql, parameters=dict(parameters or {}), settings=AS_ON_THE_WIRE, fmt="JSONEachRow")
    return [orjson.loads(line) for line in raw.splitlines() if line]
