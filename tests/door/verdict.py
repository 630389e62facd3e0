"""What became of everything that somebody was told of, by the records and by the auditor."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.reconcile.topics import Log
from pipeline.settings import Settings
from schemas.topics import METERED_RECORDS
from tests.door.service import finished_of, images_of
from tests.e2e.audit import audit_log

LISTED_MAX: Final = 10


@dataclass(slots=True)
class Known:
    """What was said to those who asked."""

    events: set[str] = field(default_factory=set[str])
    """Ids that were acknowledged: by Kafka or the spool to the service, by the gateway to its callers."""
    jobs: set[str] = field(default_factory=set[str])
    """Whose capture was answered."""
    refused: set[str] = field(default_factory=set[str])
    """Ids for which no place was left in memory."""
    undone: int = 0
    """Jobs that the service did not do, or of which nothing came out."""

    def read(self, told: Path) -> None:
        """What the service wrote down."""
        for line in told.read_text().splitlines():
            kind, _, name = line.split()
            match kind:
                case "event":
                    self.events.add(name)
                case "refused":
                    self.refused.add(name)
                case "captured":
                    self.jobs.add(name)
                case _:
                    self.undone += 1


@dataclass(slots=True)
class Verdict:
    counts: dict[str, int]
    faults: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By what is wrong; empty: nothing."""

    def find(self, what: str, names: list[str]) -> None:
        if names:
            self.counts[what] = len(names)
            self.faults[what] = names[:LISTED_MAX]


@dataclass(slots=True)
class Charged:
    """What was charged, by what the events say of themselves."""

    ids: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    images: dict[str, int] = field(default_factory=dict[str, int])
    """Of a job: how many were charged."""
    numbers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """By account, in the order of the log."""

    def take(self, record: dict[str, Any]) -> None:
        job, number = (record["attributes"].get(name) for name in ("job", "number"))
        self.ids[record["event_id"]] += 1
        if job is not None:
            self.jobs[job] += 1
            self.images[job] = self.images.get(job, 0) + record["images"]
        if number is not None:
            self.numbers.setdefault(record["account_id"], []).append(number)


def judge(settings: Settings, known: Known) -> Verdict:
    """Reads all records, and lets the auditor judge the log."""
    charged = Charged()
    for record in _metered(settings):
        charged.take(record)
    audited = audit_log(settings)
    verdict = Verdict(
        {
            "events acknowledged": len(known.events),
            "events refused by a full queue": len(known.refused),
            "jobs captured": len(known.jobs),
            "jobs charged": len(charged.jobs),
            "jobs undone": known.undone,
            "images charged in jobs": sum(charged.images.values()),
            "images failed in these jobs": sum(images_of(job) - finished_of(job) for job in charged.jobs),
            "records audited": audited.outcomes.total(),
            "usage charged": audited.outcomes["metered"],
            "resends charged nothing": audited.outcomes["duplicate"],
        }
    )
    verdict.find("acknowledged and lost", sorted(known.events - charged.ids.keys()))
    verdict.find("captured and lost", sorted(known.jobs - charged.jobs.keys()))
    twice = [*charged.ids.items(), *charged.jobs.items()]
    verdict.find("charged twice", [name for name, times in twice if times > 1])
    verdict.find("refused and charged", sorted(known.refused & charged.ids.keys()))
    wrong = [name for name, images in charged.images.items() if images != finished_of(name)]
    verdict.find("charged for other images than the finished ones", wrong)
    mixed = [account for account, seen in charged.numbers.items() if seen != sorted(seen)]
    verdict.find("accounts out of order", mixed)
    verdict.find("differences for the auditor", audited.differences)
    return verdict


def _metered(settings: Settings) -> Iterator[dict[str, Any]]:
    with closing(Log(settings.kafka)) as log:
        for partition in range(settings.kafka.partitions):
            for message in log.messages(METERED_RECORDS, partition):
                record = orjson.loads(message.value() or b"")
                if record["outcome"] == "metered":
                    yield record
