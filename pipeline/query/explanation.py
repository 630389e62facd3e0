"""Everything that is known of an event id: its records with their receipts, ledger entries and dead letters."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.clickhouse import Client
from pipeline.query.rows import rows

FOUND_MAX: Final = 100
"""Records of one id that are shown: resends and other accounts' events of the same name."""

_OF_EVENT: Final = "WHERE event_id = {id:String} AND ({account:String} = '' OR account_id = {account:String})"
_METERED: Final = f"""
SELECT * FROM metered_records_v1 {_OF_EVENT}
ORDER BY accepted_at, partition, offset LIMIT {FOUND_MAX}
"""  # noqa: S608  (parts of our own; values are bound by the server)
_DEAD: Final = f"""
SELECT * EXCEPT (payload_base64, headers) FROM dead_letters_v1 {_OF_EVENT}
ORDER BY accepted_at, partition, offset LIMIT {FOUND_MAX}
"""  # noqa: S608
_CAUSED: Final = f"""
SELECT * FROM ledger_entries_v1
WHERE cause_id = {{id:String}} AND ({{account:String}} = '' OR account_id = {{account:String}})
ORDER BY accepted_at, account_id, entry_seq LIMIT {FOUND_MAX}
"""  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What became of an id, in the order of acceptance."""

    metered: list[dict[str, Any]]
    """With `receipt` and `attributes` as JSON objects; `receipt` is None on a duplicate."""
    dead_letters: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    """Of the ledger; also those of a command with this id."""

    def entries_of(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The ledger entries that a metered record posted: the usage, and before it the overage if there was any."""
        names = ("account_id", "partition", "offset")
        return [entry for entry in self.entries if all(entry[name] == record[name] for name in names)]

    def is_empty(self) -> bool:
        """Whether nothing is known of the id (yet)."""
        return not (self.metered or self.dead_letters or self.entries)


def explain(client: Client, event_id: str, *, account: str = "") -> Explanation:
    """What became of the event or command with this id; of any account when none is named."""
    parameters = {"id": event_id, "account": account}
    return Explanation(
        metered=[_parsed(record) for record in rows(client, _METERED, parameters)],
        dead_letters=rows(client, _DEAD, parameters),
        entries=rows(client, _CAUSED, parameters),
    )


def _parsed(record: dict[str, Any]) -> dict[str, Any]:
    receipt, attributes = record["receipt"], record["attributes"]
    return {
        **record,
        "receipt": orjson.loads(receipt) if receipt else None,
        "attributes": orjson.loads(attributes) if attributes else {},
    }
