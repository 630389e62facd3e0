"""The core, cut into batches at random, says what the auditor says: every outcome, amount and balance."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import schemas
from pipeline.bootstrap import load_core
from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate
from pipeline.metering import Batch, PartitionView, initial_cursor
from pipeline.settings import Settings
from pipeline.state import next_boundary_ms
from schemas.topics import COMMAND_RESULTS, DEAD_LETTERS, METERED_RECORDS
from tests.builders import Record
from tests.simulation.auditor import DEAD_LETTER_CLASSES, Auditor, Verdict, rules_from_plan_file

SECRET = "5e" * 32
KEY = CommandKey(key_id="test", secret=bytes.fromhex(SECRET))
START = 1_795_003_200_000
DAY_MS = 86_400_000
PLANS = Path(schemas.__file__).parent / "plans" / "2026-01.json"
TICK = LoadRecord(b"", b'{"specversion":"1.0","type":"org.apimage.tick.v1"}', ())


@dataclass
class World:
    """One partition in memory, as the shell would keep it."""

    settings: Settings

    def __post_init__(self) -> None:
        self.core = load_core(self.settings)
        self.cursor = initial_cursor(self.core, "simulated")
        self.published: dict[bytes, bytes] = {}
        self.accounts: dict[bytes, bytes] = {}
        self.identities: dict[bytes, bytes] = {}

    def fold(self, batch: list[Record]) -> Iterator[tuple[str, dict[str, Any]]]:
        view = PartitionView(
            partition=0,
            cursor=self.cursor,
            published=self.published,
            accounts=self.accounts,
            identities=self.identities,
            due_accounts=self._due,
        )
        folding = Batch(self.core, view)
        folding.feed(batch)
        folded = folding.finish()
        self.cursor = folded.cursor
        self.published.update(folded.published)
        self.accounts.update(folded.accounts)
        self.identities.update(folded.identities)
        for record in folded.records:
            yield record.topic, orjson.loads(record.value)

    def _due(self, clock_ms: int, limit: int) -> Sequence[bytes]:
        due = [
            (boundary, key)
            for key, row in self.accounts.items()
            if (boundary := next_boundary_ms(row)) <= clock_ms
        ]
        return [key for _, key in sorted(due)[:limit]]


def _log(load: list[LoadRecord], chance: random.Random) -> Iterator[Record]:
    """Append times that move on by fits and starts, go back now and then, and at the end jump by months."""
    accepted = START
    for offset, record in enumerate(load):
        accepted += chance.choice((0, 0, 1, 7))
        yield Record(offset, accepted - chance.choice((0, 0, 0, 3)), *record)
    for days in range(1, 70):
        yield Record(len(load) + days, accepted + days * DAY_MS, *TICK)


def _said(topic: str, record: dict[str, Any]) -> Verdict | None:
    if topic == DEAD_LETTERS:
        reason = record["reason"]
        return Verdict("dead_letter", DEAD_LETTER_CLASSES.get(reason, reason))
    if topic not in {METERED_RECORDS, COMMAND_RESULTS}:
        return None
    name = (record["outcome"], record["reason"], record["account_id"])
    if topic == METERED_RECORDS:
        amounts = (Decimal(record[field]) for field in ("credits", "rated_credits", "balance_after"))
        return Verdict(*name, record["event_id"], *amounts)
    return Verdict(*name, record["command_id"], balance_after=Decimal(record["balance_after"]))


def _expected(verdict: Verdict) -> Verdict:
    """Dead letters name what they could read; the auditor does not look at that."""
    return Verdict("dead_letter", verdict.reason) if verdict.outcome == "dead_letter" else verdict


@pytest.mark.parametrize("seed", range(3))
def test_core_and_auditor_agree_on_every_record(seed: int) -> None:
    chance = random.Random(seed)
    plan = LoadPlan(
        seed=seed, events=4000, accounts=40, base_ms=START - 1000, malformed_share=0.05, duplicate_share=0.05,
        conflict_share=0.01, dry_share=0.3, plans=("free", "starter", "prepaid"), hold_share=0.1,
        change_share=0.01,
    )  # fmt: skip
    log = list(_log(list(generate(plan, KEY)), chance))
    world = World(Settings(command_key_id="test", command_keys={"test": SECRET}))
    auditor = Auditor(rules_from_plan_file(PLANS, {"test": KEY.secret}))

    said: dict[int, Verdict] = {}
    waiting = log.copy()
    while waiting:
        size = chance.choice((1, 10, 700))
        batch, waiting = waiting[:size], waiting[size:]
        for topic, record in world.fold(batch):
            verdict = _said(topic, record)
            if verdict is not None:
                # Of a capture or a readmission the record of the usage comes first, then the answer.
                assert record["offset"] not in said or said[record["offset"]].outcome in {
                    "metered",
                    "denied",
                    "reversed",
                    "rerated",
                }
                said[record["offset"]] = verdict
    for logged in log:
        expected = _expected(auditor.judge(logged.timestamp, logged.key, logged.value, logged.headers))
        assert said.get(logged.offset, Verdict("tick")) == expected, (logged.offset, logged.value)
    posted = {
        key.decode(): Decimal(orjson.loads(row)["posted"]).scaleb(-6) for key, row in world.accounts.items()
    }
    assert posted == auditor.balances()
    answers = {"metered", "denied", "duplicate", "accepted", "refused", "dead_letter", "tick"}
    assert auditor.outcomes.keys() == answers
