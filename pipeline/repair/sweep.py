"""The duplicate sweep: usage that was charged more than once under one account, source and id.

The stream knows an id for as long as its events are accepted. Who sends an old id again with a new `time` breaks that
contract and is charged twice; that stands in ClickHouse, and is found there. Of each such group the first charge that
stands stays, and what is left of the others is taken back by signed commands, whose ids are made of the places of the
charges: swept twice, or killed in between, a charge is taken back once. Where the content differs, two different uses
may have one id by mistake: those are named, and taken back only when asked for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pipeline.clickhouse import Client, open_analyst
from pipeline.client.commands import CommandKey, command_key, signed, unsigned_command
from pipeline.client.events import encode
from pipeline.client.origin import now_text
from pipeline.client.publisher import Publisher
from pipeline.corrections import charges_of, record_place
from pipeline.domain.instants import DAY_MS, format_instant
from pipeline.domain.usage import fingerprint_of
from pipeline.query.rows import rows
from pipeline.settings import Settings
from pipeline.validate_usage import canonical_json
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

SOURCE: Final = "//creditstream/sweep"
COMMANDS_MAX: Final = 500
"""Published at a time."""
_CHARGED_TWICE: Final = """
SELECT account_id, source, event_id FROM metered_records_v1
WHERE outcome = 'metered' AND rated_credits > 0
GROUP BY account_id, source, event_id
HAVING count() > 1 AND max(accepted_at) >= parseDateTime64BestEffort({since:String}, 3, 'UTC')
ORDER BY account_id, source, event_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A charge of an id that was charged before."""

    account_id: str
    source: str
    event_id: str
    partition: int
    offset: int
    """In the input log, of this charge."""
    first_offset: int
    """Of the charge that stays."""
    left: Decimal
    """Credits of it that were not taken back."""
    same_content: bool
    command: dict[str, Any] | None
    """What takes it back; None where its record is no longer in Kafka."""


def sweep(settings: Settings, *, now_ms: int, conflicts: bool, dry_run: bool) -> list[Charged]:
    """Find what was charged twice in the time in which it can be taken back, and publish what takes it back.

    Raises ValueError without a command key. An answer is not waited for: `creditstream explain` has it.
    """
    key = command_key(settings)
    if key is None:
        raise ValueError("expected a command key: the sweep signs what it takes back")
    client = open_analyst(settings.clickhouse)
    try:
        found = list(_charged_twice(settings, client, key, now_ms))
    finally:
        client.close()
    commands = [each.command for each in found if each.command and (each.same_content or conflicts)]
    if not dry_run and commands:
        with Publisher(settings) as publisher:
            for start in range(0, len(commands), COMMANDS_MAX):
                publisher.publish_all([encode(each) for each in commands[start : start + COMMANDS_MAX]])
    return found


def _charged_twice(settings: Settings, client: Client, key: CommandKey, now_ms: int) -> Iterator[Charged]:
    since = format_instant(now_ms - settings.rules.reversal_days * DAY_MS)
    for group in rows(client, _CHARGED_TWICE, {"since": since}):
        charges = charges_of(client, group["event_id"], account=group["account_id"])
        same = [
            each for each in charges if each["source"] == group["source"] and each["outcome"] == "metered"
        ]
        # The first that was not taken back stays.
        standing = [each for each in sorted(same, key=_order) if _left(each) > 0]
        for charge in standing[1:]:
            if charge["accepted_at"] >= since:
                yield _charged(settings, key, standing[0], charge, _left(charge))


def _order(charge: dict[str, Any]) -> int:
    return int(charge["partition_seq"])


def _left(charge: dict[str, Any]) -> Decimal:
    return Decimal(charge["rated_credits"]) - Decimal(charge["taken_back"])


def _charged(
    settings: Settings, key: CommandKey, first: dict[str, Any], charge: dict[str, Any], left: Decimal
) -> Charged:
    place = record_place(settings, charge)
    return Charged(
        account_id=charge["account_id"],
        source=charge["source"],
        event_id=charge["event_id"],
        partition=charge["partition"],
        offset=charge["offset"],
        first_offset=first["offset"],
        left=left,
        same_content=_fingerprint(first) == _fingerprint(charge),
        command=None if place is None else _command(key, first, charge, place),
    )


def _fingerprint(charge: dict[str, Any]) -> object:
    data = {**charge["receipt"]["inputs"], **charge["attributes"]}
    return fingerprint_of(
        f"{USAGE_TYPE_PREFIX}{charge['service']}{TYPE_VERSION_SUFFIX}", canonical_json(data)
    )


def _command(
    key: CommandKey, first: dict[str, Any], charge: dict[str, Any], place: dict[str, int]
) -> dict[str, Any]:
    """All that is left is taken back. The same charge has the same command, whoever sweeps and when."""
    reason = f"charged before at offset {first['offset']}: the id was sent again with another time"
    unsigned = unsigned_command(
        "reverse",
        account=charge["account_id"],
        command_id=f"sweep:{charge['partition']}:{charge['offset']}",
        source=SOURCE,
        time=now_text(),
        data={"record": place, "reason": reason},
    )
    return signed(unsigned, key)


def run_every(sweep_once: Callable[[], object], wait: Callable[[], bool]) -> None:
    """Sweep, wait, sweep again, until `wait` says that it is enough."""
    sweep_once()
    while not wait():
        sweep_once()
