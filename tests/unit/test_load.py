"""The load is one function of its plan, and contains what the plan says."""

from collections import Counter
from io import BytesIO
from itertools import islice

import orjson
import pytest

from pipeline.load import CommandKey, LoadPlan, LoadRecord, generate, read_records, write_records
from pipeline.load.broken import KINDS

KEY = CommandKey(key_id="test", secret=b"0123456789abcdef0123456789abcdef")
PLAN = LoadPlan(seed=7, events=4000, accounts=50, base_ms=1_795_000_000_000, malformed_share=0.05)


@pytest.fixture(scope="module")
def load() -> list[LoadRecord]:
    return list(generate(PLAN, KEY))


def _event(record: LoadRecord) -> dict[str, object]:
    try:
        event = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def test_the_same_plan_gives_the_same_bytes(load: list[LoadRecord]) -> None:
    assert list(generate(PLAN, KEY)) == load


def test_another_seed_gives_another_load(load: list[LoadRecord]) -> None:
    other = LoadPlan(seed=8, events=4000, accounts=50, base_ms=PLAN.base_ms)
    assert list(generate(other, KEY)) != load


def test_a_file_gives_back_every_byte(load: list[LoadRecord]) -> None:
    file = BytesIO()
    assert write_records(load, file) == len(load)
    file.seek(0)
    assert list(read_records(file)) == load


def test_every_account_is_opened_before_it_is_used(load: list[LoadRecord]) -> None:
    opened = set()
    for record in load:
        event = _event(record)
        if event.get("type") == "org.apimage.account.open.v1":
            opened.add(record.key)
        elif record.key is not None and record.key.startswith(b"acct-"):
            assert record.key in opened


def test_usage_counts_as_the_plan_says(load: list[LoadRecord]) -> None:
    commands = sum(str(_event(record).get("type")).startswith("org.apimage.account.") for record in load)
    # Some of the malformed events are commands without a valid signature.
    forged = sum(b"1000000" in record.value and b"goodwill" in record.value for record in load)
    assert len(load) - commands + forged == PLAN.events


def test_resends_are_equal_to_the_byte_and_near_their_share(load: list[LoadRecord]) -> None:
    repeated = len(load) - len(set(load))
    assert PLAN.events * 0.005 < repeated < PLAN.events * 0.02


def test_holds_are_placed_before_they_end_and_most_are_captured() -> None:
    plan = LoadPlan(seed=2, events=2000, accounts=20, base_ms=PLAN.base_ms, hold_share=0.1, change_share=0.05)
    placed, ended = set[str](), Counter[str]()
    for record in generate(plan, KEY):
        verb = str(_event(record).get("type")).removeprefix("org.apimage.account.").removesuffix(".v1")
        if verb == "hold":
            placed.add(_hold_id(record))
        elif verb in {"capture", "release"}:
            assert _hold_id(record) in placed
            ended[verb] += 1
        elif verb in {"change_plan", "configure", "close"}:
            ended[verb] += 1
    assert 150 < len(placed) < 250
    assert ended["capture"] > 3 * ended["release"] > 0
    assert ended["change_plan"] > ended["close"] > 0
    assert ended["configure"] > ended["close"]


def _hold_id(record: LoadRecord) -> str:
    return str(orjson.loads(record.value)["data"]["hold_id"])


def test_use_is_skewed_to_few_accounts(load: list[LoadRecord]) -> None:
    (_, most), *_, (_, least) = Counter(record.key for record in load if record.key).most_common(50)
    assert most > 10 * least


def test_every_kind_of_fault_has_its_turn() -> None:
    plan = LoadPlan(
        seed=1, events=len(KINDS), accounts=1, base_ms=0, malformed_share=1, duplicate_share=0,
        conflict_share=0, top_up_share=0, hold_share=0, change_share=0, binary_share=0,
    )  # fmt: skip
    spoiled = list(generate(plan, KEY))[-len(KINDS) :]
    assert len(set(spoiled)) == len(KINDS)


def test_a_long_load_need_not_be_made_to_read_its_start() -> None:
    plan = LoadPlan(seed=1, events=10**12, accounts=3, base_ms=0)
    assert len(list(islice(generate(plan, KEY), 100))) == 100
