"""What a program has written, as sums that show any difference: no program is fast by doing less.

Every outcome and every ledger entry is compared byte for byte, and the newest row of every account. Balances are
not: there is one for each batch, and every program cuts its batches as it likes.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Final

import orjson

from pipeline.settings import Settings
from pipeline.state import DIGEST_MODULUS, RESERVED_KEYS, row_digest
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, LEDGER_ENTRIES, METERED_RECORDS, changelog
from tests.bench.reading import read_to_end

OUTCOMES: Final = (METERED_RECORDS, COMMAND_RESULTS, DEAD_LETTERS)
"""Together they have exactly one record for each record of the input."""
COMPARED: Final = (*OUTCOMES, LEDGER_ENTRIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Equal exactly when two programs wrote the same."""

    records: int
    """Outcomes and ledger entries."""
    records_digest: str
    accounts: int
    accounts_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """Of a program that has the rules from nobody: how many events ended how, and what all of them cost."""

    outcomes: dict[str, int]
    credits: Decimal


class Sums:
    """Sums over records and rows, in whatever order they come."""

    def __init__(self) -> None:
        self._records = 0
        self._records_digest = 0
        self._accounts = 0
        self._accounts_digest = 0

    def add(self, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> None:
        """One record that was written; topics that are not compared are left out."""
        if topic in COMPARED:
            text = b"%b\0%b\0%d\0%b" % (topic.encode(), key, timestamp_ms, value)
            self._records += 1
            self._records_digest += int.from_bytes(blake2b(text, digest_size=16).digest(), "big")

    def add_rows(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """The newest rows of accounts."""
        for key, row in rows:
            self._accounts += 1
            self._accounts_digest += row_digest(key, row)

    def results(self) -> Results:
        return Results(
            records=self._records,
            records_digest=f"{self._records_digest % DIGEST_MODULUS:032x}",
            accounts=self._accounts,
            accounts_digest=f"{self._accounts_digest % DIGEST_MODULUS:032x}",
        )


def charges(settings: Settings) -> Charges:
    """What the metered records of this program's run say."""
    outcomes: Counter[str] = Counter()
    charged = Decimal(0)
    for message in read_to_end(settings.kafka, [METERED_RECORDS]):
        record = orjson.loads(message.value() or b"{}")
        outcomes[record["outcome"]] += 1
        charged += Decimal(record["credits"])
    return Charges(outcomes=dict(outcomes), credits=charged)


def written(settings: Settings) -> Results:
    """What stands on the topics of the program that ran with these settings."""
    sums, prefix = Sums(), settings.kafka.topic_prefix
    for message in read_to_end(settings.kafka, COMPARED):
        topic = (message.topic() or "").removeprefix(prefix)
        sums.add(topic, message.key() or b"", message.value() or b"", message.timestamp()[1])
    rows: dict[bytes, bytes] = {}
    for message in read_to_end(settings.kafka, [changelog(settings.worker.app_id)]):
        rows[message.key() or b""] = message.value() or b""
    sums.add_rows((key, row) for key, row in rows.items() if not key.startswith(RESERVED_KEYS))
    return sums.results()
