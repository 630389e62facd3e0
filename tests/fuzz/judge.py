"""Plays a fuzzed log through the real batches, and holds to each record what must be true whatever it is.

No exception; exactly one outcome for every record but ticks; every record that is said has its schema's shape; what is
charged at a place is what is entered there, and an account's entries add up to its row of the table.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import orjson

from schemas.account_command import TICK_TYPE
from schemas.shapes import CARRIED, RECORDS
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, LEDGER_ENTRIES, METERED_RECORDS
from tests.builders import Partition, Record
from tests.fuzz.inputs import records

WORLD_RECORDS = 500
BATCH_RECORDS_MAX = 200
MODEL_OF = {topic: RECORDS[names[0]] for topic, names in CARRIED.items() if names[0] in RECORDS}


@dataclass(slots=True)
class Found:
    """What became of how many records."""

    outcomes: Counter[str] = field(default_factory=Counter)
    spoiled: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """What was done to a record → what became of it."""
    said: Counter[str] = field(default_factory=Counter)
    """Topic → records."""
    validated: int = 0


def play(seed: str, count: int, found: Found, *, validated_share: float = 1) -> None:
    """One world of so many records. Raises AssertionError that names the seed and the record."""
    random = Random(seed)
    log = list(records(random, count))
    partition, rest = Partition(), [record for _, record in log]
    while rest:
        size = random.randint(1, BATCH_RECORDS_MAX)
        _fold(partition, rest[:size], seed)
        rest = rest[size:]
    _validate(partition, random, validated_share, found, seed)
    said = _said_of(partition)
    for name, record in log:
        outcome = _outcome(said[record.offset], record, seed)
        found.outcomes[outcome] += 1
        found.spoiled[name][outcome] += 1
    strangers = said.keys() - {record.offset for _, record in log}
    assert not strangers, f"world {seed}: outcomes of places {sorted(strangers)}, where nothing stood"
    _conserve(partition, seed)


def _fold(partition: Partition, log: list[Record], seed: str) -> None:
    try:
        folded = partition.run(log)
    except Exception as error:
        if len(log) > 1:  # Nothing of it was kept: find the record.
            for each in log:
                _fold(partition, [each], seed)
        raise AssertionError(f"world {seed}: {error!r} by {log[0]!r:.2000}") from error
    partition.apply(folded)


def _said_of(partition: Partition) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    """What was said about each place of the log."""
    said: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for topic, content in partition.said:
        if topic in {METERED_RECORDS, COMMAND_RESULTS, DEAD_LETTERS}:
            said[content["offset"]].append((topic, content))
    return said


def _outcome(said: list[tuple[str, dict[str, Any]]], record: Record, seed: str) -> str:
    """The one outcome; what an accepted command charges or takes back is a part of its own."""
    where = f"world {seed}: {record!r:.2000}"
    results = [content for topic, content in said if topic == COMMAND_RESULTS]
    letters = [content for topic, content in said if topic == DEAD_LETTERS]
    metered = [content for topic, content in said if topic == METERED_RECORDS]
    if not said:
        assert _is_tick(record), f"expected an outcome, {where}"
        return "tick"
    if results:
        assert (len(results), len(letters)) == (1, 0), (where, said)
        assert len(metered) <= (results[0]["outcome"] == "accepted"), (where, said)
        return str(results[0]["outcome"])
    assert len(metered) + len(letters) == 1, (where, said)
    return str(metered[0]["outcome"]) if metered else str(letters[0]["reason"])


def _is_tick(record: Record) -> bool:
    named = [value for name, value in record.headers if name == "ce_type"]
    if named[-1:] == [TICK_TYPE.encode()]:
        return True
    event = orjson.loads(record.value or b"null")
    return isinstance(event, dict) and event.get("type") == TICK_TYPE


def _validate(partition: Partition, random: Random, share: float, found: Found, seed: str) -> None:
    for topic, content in partition.said:
        found.said[topic] += 1
        model = MODEL_OF.get(topic)
        if model is not None and random.random() < share:
            found.validated += 1
            encoded = orjson.dumps(content)
            again = model.model_validate_json(encoded)
            assert again.model_dump(mode="json", exclude_unset=True) == content, (seed, topic, content)


def _conserve(partition: Partition, seed: str) -> None:
    places: dict[int, Decimal] = defaultdict(Decimal)
    accounts: dict[str, Decimal] = defaultdict(Decimal)
    for topic, content in partition.said:
        if topic == METERED_RECORDS:
            places[content["offset"]] += Decimal(content["credits"])
        elif topic == LEDGER_ENTRIES:
            accounts[content["account_id"]] += Decimal(content["credits"])
            if content["kind"] in {"usage", "reversal"}:
                places[content["offset"]] += Decimal(content["credits"])
    assert not any(places.values()), (seed, {place: amount for place, amount in places.items() if amount})
    for key, row in partition.accounts.items():
        posted = Decimal(orjson.loads(row)["posted"]).scaleb(-6)
        assert posted == accounts[key.decode()] >= 0, (seed, key, posted, accounts[key.decode()])
