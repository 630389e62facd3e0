"""What a command needs from the past, and names by its position: the metered record of the charge that it corrects.

The shell reads the records that `wanted` names and hands them to the core with the batch; the core believes nothing of
them that it can check (design.md section 4).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from pipeline.core import Core
from pipeline.domain.answers import Refused
from pipeline.domain.commands import Command, RecordPlace, RerateUsage, ReverseUsage
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import GrantId, GrantShare
from pipeline.domain.instants import parse_instant
from pipeline.domain.reasons import Reason
from pipeline.domain.reversals import PastUsage
from pipeline.domain.usage import UsageEvent
from pipeline.validate import LogRecord, parse
from pipeline.validate_usage import SERVICES, usage_event
from schemas.account_command import COMMAND_TYPE_PREFIX
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

Evidence: TypeAlias = Mapping[int, bytes]
"""Offset of a usage event in the log → its metered record, as it was said then."""
NO_EVIDENCE: Final[Evidence] = {}

_STEM: Final = f"{COMMAND_TYPE_PREFIX}re".encode()
"""Looked for in every record: plain usage pays for one search."""
_CHARGES: Final = frozenset({"metered", "rerated"})


def wanted(records: Iterable[LogRecord], core: Core) -> list[RecordPlace]:
    """The metered records that commands among these name. Only signed ones: nobody else makes a worker read."""
    found: list[RecordPlace] = []
    for record in records:
        value, headers = record.value, record.headers
        if (value is not None and _STEM in value) or (headers and _is_named_in(headers)):
            parsed = parse(record, event_bytes_max=core.rules.event_bytes_max, command_keys=core.command_keys)
            if isinstance(parsed, Command) and isinstance(parsed.body, ReverseUsage | RerateUsage):
                found.append(parsed.body.record)
    return found


def _is_named_in(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether an event in Kafka's binary mode may be a correction."""
    # No `any`: a generator for every record would cost more than what it looks for.
    for name, text in headers:  # noqa: SIM110  (as above)
        if name == "ce_type" and text is not None and _STEM in text:
            return True
    return False


def said_of(event_offset: int, records: Iterable[bytes]) -> bytes | None:
    """The first of these metered records that is about this place in the log, if any is."""
    name = b'"offset":%d,' % event_offset
    for record in records:  # What a producer adds to its events may look like the name.
        if name in record and orjson.loads(record)["offset"] == event_offset:
            return record
    return None


def past_usage(evidence: bytes | None, place: RecordPlace, account_id: str) -> PastUsage | Refused:
    """The charge that a record tells of, or why it is none that can be corrected."""
    if evidence is None:
        detail = (
            f"expected a metered record at offset {place.offset} of partition {place.partition}, found none"
        )
        return Refused(Reason.RECORD_NOT_FOUND, detail)
    record: dict[str, Any] = orjson.loads(evidence)
    named = (account_id, place.partition, place.event_offset)
    found = (record["account_id"], record["partition"], record["offset"])
    if found != named:
        return Refused(Reason.RECORD_MISMATCH, f"expected the record of {named}, found that of {found}")
    charged = parse_credits(record["rated_credits"])
    if record["outcome"] not in _CHARGES or not charged:
        return Refused(
            Reason.NOT_REVERSIBLE, f"expected a charge, found a record that is {record['outcome']}"
        )
    return PastUsage(
        event=usage_of(record),
        offset=place.event_offset,
        entry_seq=record["entry_seq"],
        accepted_at=parse_instant(record["accepted_at"]),
        charged=charged,
        shares=tuple(
            GrantShare(GrantId(each["grant_id"]), Credits(parse_credits(each["credits"])))
            for each in record["receipt"]["grants"]
        ),
    )


def usage_of(record: Mapping[str, Any]) -> UsageEvent:
    """The usage event of a charge, from its own receipt."""
    kind = f"{USAGE_TYPE_PREFIX}{record['service']}{TYPE_VERSION_SUFFIX}"
    event = {
        "type": kind,
        "subject": record["account_id"],
        "id": record["event_id"],
        "source": record["source"],
        "time": record["occurred_at"],
        "data": {**record["receipt"]["inputs"], **record["attributes"]},
    }
    return usage_event(event, SERVICES[kind])
