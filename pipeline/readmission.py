"""Puts usage back into the log that was set aside: late events, and dead letters whose cause is mended.

The stream knows every identity of the hot window and a little more (`Rules.identity_ms`); what was answered before
that stands in ClickHouse. So one looks there, once everything older has been stored, and says in a signed command what
was found. The stream then decides by the command and its own index alone (design.md section 3).
"""

import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.clickhouse import Client
from pipeline.client.commands import CommandKey, signed, unsigned_command
from pipeline.client.origin import new_id, now, now_text
from pipeline.domain.instants import SECOND_MS
from pipeline.domain.usage import fingerprint_of
from pipeline.query.answered import Answered, EventName, first_answers, is_stored
from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from pipeline.validate import Invalid, cloud_event, parse_event
from pipeline.validate_usage import canonical_json
from schemas.topics import METERED_RECORDS
from schemas.usage_event import USAGE_TYPE_PREFIX

STORED_POLL_SECONDS: Final = 0.5
READ_AHEAD_BYTES: Final = 2_097_152
"""A look needs a few hundred records of each partition. What was compressed is ten times as large when it is read."""
TAIL_OFFSETS: Final = 500
"""How far before an instant its last record is looked for first: markers of transactions have offsets too."""
USAGE_ATTRIBUTES: Final = ("type", "id", "source", "time", "data")


class NotStoredError(Exception):
    """ClickHouse has not yet what a look must see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A usage event that was set aside, and where."""

    event: dict[str, Any]
    """The CloudEvent, perhaps mended."""
    partition: int
    offset: int
    accepted_at: str

    @property
    def name(self) -> EventName:
        return EventName(self.event["subject"], self.event["source"], self.event["id"])


def letter_of(record: Mapping[str, Any], mended: object = None) -> Letter:
    """The letter of a dead-letter record, with its own event or a mended one.

    Raises ValueError with what was expected when that is no usage event that could be metered.
    """
    event = mended
    if event is None:
        headers = [(each["name"], b64decode(each["value_base64"])) for each in record["headers"]]
        event = cloud_event(b64decode(record["payload_base64"]), headers)
    if not isinstance(event, dict) or not str(event.get("type")).startswith(USAGE_TYPE_PREFIX):
        raise ValueError("expected a usage event; an account command is sent again, under a new id and time")
    subject = event.get("subject")
    parsed = parse_event(event, subject.encode() if isinstance(subject, str) else None, {})
    if isinstance(parsed, Invalid):
        raise ValueError(f"{parsed.detail} ({parsed.reason} at {parsed.pointer})")  # noqa: TRY004  (of a value)
    return Letter(
        event=event,
        partition=record["partition"],
        offset=record["offset"],
        accepted_at=record["accepted_at"],
    )


class Readmission:
    """Looks into the records, and makes the commands that put letters back."""

    def __init__(self, settings: Settings, client: Client, key: CommandKey, *, source: str) -> None:
        self._settings = settings
        self._client = client
        self._key = key
        self._source = source
        self._log = Log(settings.kafka, read_ahead_bytes=READ_AHEAD_BYTES)

    def close(self) -> None:
        self._log.close()

    def commands(
        self, letters: Sequence[Letter], *, seconds_max: float, give_up: Callable[[], bool] = lambda: False
    ) -> list[dict[str, Any]]:
        """One signed command for each letter. Raises NotStoredError when ClickHouse is too far behind for a look.

        The command lives as long as the hot window from its `time`; the index then knows everything that was
        answered since `ahead_seconds_max` before that time. Everything older must be stored when we look.
        """
        at, stored_until = now_text(), now() - self._settings.rules.ahead_seconds_max * SECOND_MS
        deadline = time.monotonic() + seconds_max
        for partition in range(self._settings.kafka.partitions):
            self._wait_until_stored(partition, stored_until, deadline, give_up)
        known = first_answers(self._client, [letter.name for letter in letters])
        return [self._command(letter, known.get(letter.name), at) for letter in letters]

    def _command(self, letter: Letter, answered: Answered | None, at: str) -> dict[str, Any]:
        event = letter.event
        data: dict[str, Any] = {
            "usage": {name: event[name] for name in USAGE_ATTRIBUTES},
            "letter": {
                "partition": letter.partition,
                "offset": letter.offset,
                "accepted_at": letter.accepted_at,
            },
        }
        if answered is not None:
            same = answered.fingerprint == fingerprint_of(event["type"], canonical_json(event["data"]))
            data["known"] = {"offset": answered.offset, "same_content": same}
        unsigned = unsigned_command(
            "readmit",
            account=event["subject"],
            command_id=new_id(),  # Another look may find another answer; the usage is charged once by its own id.
            source=self._source,
            time=at,
            data=data,
        )
        return signed(unsigned, self._key)

    def _wait_until_stored(
        self, partition: int, until_ms: int, deadline: float, give_up: Callable[[], bool]
    ) -> None:
        last = self._last_answered(partition, until_ms)
        while last is not None and not is_stored(self._client, partition, last):
            if time.monotonic() > deadline or give_up():
                raise NotStoredError(
                    f"ClickHouse has not yet the metered record of partition {partition}, offset {last}: is the sink "
                    "running, and how far behind is it (`creditstream status`)?"
                )
            time.sleep(STORED_POLL_SECONDS)

    def _last_answered(self, partition: int, until_ms: int) -> int | None:
        """The place in the input log of the last metered record that was made before an instant."""
        low, high = self._log.bounds(METERED_RECORDS, partition)
        end = self._log.offset_at(METERED_RECORDS, partition, until_ms, high)
        back = TAIL_OFFSETS
        while low < end:
            start = max(low, end - back)
            last: int | None = None
            for message in self._log.messages(METERED_RECORDS, partition, start=start):
                if (message.offset() or 0) >= end:
                    break
                last = int(orjson.loads(message.value() or b"")["offset"])
            if last is not None or start == low:
                return last
            back *= 8
        return None
