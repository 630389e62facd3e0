"""Records that can never be metered as they are, with their bytes: what to mend, and what to put back."""

from typing import Any, Final

from pipeline.clickhouse import Client
from pipeline.query.rows import rows

_LETTERS: Final = """
SELECT * FROM dead_letters_v1
WHERE ({account:String} = '' OR account_id = {account:String})
    AND (empty({reasons:Array(String)}) OR reason IN {reasons:Array(String)})
    AND accepted_at >= parseDateTime64BestEffort({since:String}, 3, 'UTC')
ORDER BY accepted_at DESC, partition, offset DESC LIMIT {limit:UInt32}
"""
_LETTER: Final = """
SELECT * FROM dead_letters_v1 WHERE partition = {partition:UInt32} AND offset = {offset:UInt64} LIMIT 1
"""


def dead_letters(
    client: Client, *, account: str, reasons: list[str], since: str, limit: int
) -> list[dict[str, Any]]:
    """The newest letters first; of every account, and for every reason, where none is named."""
    parameters = {"account": account, "reasons": reasons, "since": since, "limit": limit}
    return [_named(row) for row in rows(client, _LETTERS, parameters)]


def dead_letter(client: Client, partition: int, offset: int) -> dict[str, Any] | None:
    """The letter at a place of the input log."""
    found = rows(client, _LETTER, {"partition": partition, "offset": offset})
    return _named(found[0]) if found else None


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """Headers by name, as on the wire."""
    headers = row["headers"]
    pairs = [
        each if isinstance(each, dict) else dict(zip(("name", "value_base64"), each, strict=True))
        for each in headers
    ]
    return {**row, "headers": pairs}
