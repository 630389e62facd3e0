"""Which usage events were answered before, further back than the stream's own index reaches.

Reads the table itself, as the application's user: whether a row is there does not depend on merges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from pipeline.clickhouse import Client
from pipeline.domain.usage import Fingerprint, fingerprint_of
from pipeline.query.rows import rows
from pipeline.validate_usage import canonical_json
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

_ANSWERED: Final = """
SELECT account_id, source, event_id, service, offset, receipt, attributes FROM metered_records
WHERE account_id IN {accounts:Array(String)} AND event_id IN {ids:Array(String)}
    AND outcome IN ('metered', 'denied')
ORDER BY accepted_at, offset
"""
_IS_THERE: Final = """
SELECT 1 FROM metered_records WHERE partition = {partition:UInt32} AND offset = {offset:UInt64} LIMIT 1
"""


class EventName(NamedTuple):
    """What an event is charged once by."""

    account_id: str
    source: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The first answer to an event."""

    offset: int
    """In the input log, where it was charged or denied."""
    fingerprint: Fingerprint
    """Of its content, made anew from its receipt and attributes."""


def first_answers(client: Client, names: Sequence[EventName]) -> dict[EventName, Answered]:
    """Those of the events that were metered or denied."""
    parameters = {
        "accounts": sorted({name.account_id for name in names}),
        "ids": sorted({name.event_id for name in names}),
    }
    wanted, found = set(names), dict[EventName, Answered]()
    for row in rows(client, _ANSWERED, parameters):
        name = EventName(row["account_id"], row["source"], row["event_id"])
        if name in wanted and name not in found:
            found[name] = Answered(row["offset"], _fingerprint(row))
    return found


def is_stored(client: Client, partition: int, offset: int) -> bool:
    """Whether the metered record of this place in the input log is there. The sink stores them in order."""
    return bool(rows(client, _IS_THERE, {"partition": partition, "offset": offset}))


def _fingerprint(row: dict[str, Any]) -> Fingerprint:
    data = {**orjson.loads(row["receipt"])["inputs"], **orjson.loads(row["attributes"] or "{}")}
    kind = f"{USAGE_TYPE_PREFIX}{row['service']}{TYPE_VERSION_SUFFIX}"
    return fingerprint_of(kind, canonical_json(data))
