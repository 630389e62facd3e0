"""What a committed batch adds to the worker's metrics: a few sums over what it made.

Kind and reason of an outcome are the first such attributes in its bytes; what producers wrote cannot stand for them:
quotes inside strings are escaped, and their own attributes come last. So no record is parsed for it.
"""

import logging
import re
from collections import Counter
from itertools import islice
from typing import Final

import orjson

from pipeline import telemetry
from pipeline.client.origin import now
from pipeline.metering import Folded
from pipeline.tracing import Traces
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, METERED_RECORDS

MS: Final = 1000
DEAD_LETTERS_TOLD_MAX: Final = 5
"""Of one batch, each in a line of the log; all of them are on their topic."""
_USAGE: Final = re.compile(rb'"outcome":"([a-z_]+)","reason":"([a-z_]*)"')
_COMMAND: Final = re.compile(rb'"outcome":"([a-z_]+)","first_outcome":"[a-z_]+","reason":"([a-z_]*)"')
_DEAD_LETTER: Final = re.compile(rb'"reason":()"([a-z_]+)"')
_OUTCOME: Final = {
    METERED_RECORDS: ("", _USAGE),
    COMMAND_RESULTS: ("command_", _COMMAND),
    DEAD_LETTERS: ("dead_letter", _DEAD_LETTER),
}

_LOG: Final = logging.getLogger(__name__)


def outcomes_of(folded: Folded) -> dict[tuple[str, str], int]:
    """How many outcomes of the batch are of each kind (`metered`, `denied`, …, `command_accepted`, …, `dead_letter`)
    and reason."""
    counts: dict[tuple[str, str], int] = {}
    for topic, (prefix, pattern) in _OUTCOME.items():
        found = [pattern.search(record.value) for record in folded.records if record.topic == topic]
        assert None not in found, f"a record of {topic} without its outcome"
        for (kind, reason), number in Counter(each.groups() for each in found if each is not None).items():
            counts[prefix + kind.decode(), reason.decode()] = number
    return counts


def measured(folded: Folded, *, records: int, first_at_ms: int, commit_seconds: float) -> None:
    """Count a batch that was committed. `first_at_ms`: the append time of its first record."""
    telemetry.WORKER_BATCH.observe(records)
    telemetry.WORKER_COMMIT.observe(commit_seconds)
    telemetry.APPEND_TO_BALANCE.observe(max(now() - first_at_ms, 0) / MS)
    telemetry.count_outcomes(outcomes_of(folded))


def tell_dead_letters(folded: Folded, traces: Traces) -> None:
    """Say which records of a committed batch can never be metered: the first of them, by ids and reason only."""
    letters = (orjson.loads(each.value) for each in folded.records if each.topic == DEAD_LETTERS)
    for letter in islice(letters, DEAD_LETTERS_TOLD_MAX):
        named = {name: letter[name] for name in ("partition", "offset", "reason", "event_id")}
        trace_id = traces.trace_id_of(letter["offset"])
        _LOG.warning("a dead letter", extra={**named, "account": letter["account_id"], "trace_id": trace_id})
