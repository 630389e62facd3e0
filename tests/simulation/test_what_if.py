"""What-if on many worlds: the same prices and plans make no difference, and what is recorded is what was there."""

from decimal import Decimal
from random import Random

import orjson
import pytest

from pipeline import what_if
from pipeline.domain.instants import Instant
from pipeline.evidence import wanted
from pipeline.metering import Core
from pipeline.state import VersionRef
from pipeline.what_if import Result, compare
from pipeline.what_if_schedule import Change, Live, NotComparableError
from tests.builders import (
    NOON,
    Partition,
    Record,
    catalog,
    command,
    flat_book,
    open_account,
    publication,
    record,
    usage,
)
from tests.simulation.world import events

SEEDS = range(60)
HOUR = 3_600_000


def lived(log: list[Record]) -> tuple[Core, Live]:
    partition = Partition()
    partition.apply(partition.run(log))
    assert partition.cursor is not None
    return partition.core, Live(0, partition.cursor, partition.published)


def unchanged(live: Live) -> list[Change]:
    """Every version replaced by itself, and once more from the middle of its time on."""

    def content(kind: str, ref: VersionRef) -> dict[str, object]:
        return dict(orjson.loads(live.published[f"__{kind}__/{ref.version}".encode()]))

    books, catalogs = live.cursor.price_books, live.cursor.plan_catalogs
    changes = [
        Change(content=content(kind, ref), is_plans=refs is catalogs, replaces=ref.version, since=None)
        for kind, refs in (("price_book", books), ("plan_catalog", catalogs))
        for ref in refs
    ]
    last = books[-1]
    since = Instant(last.effective_from + HOUR)
    return [*changes, Change(content=content("price_book", last), is_plans=False, replaces="", since=since)]


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what one slice knew must reach the next one."""
    monkeypatch.setattr(what_if, "SLICE_RECORDS", 7)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_prices_and_plans_make_no_difference_at_all(seed: int) -> None:
    log = [
        record(event, offset=offset, at=at) for offset, (at, event) in enumerate(events(Random(seed), 120))
    ]
    core, live = lived(log)
    result = Result()
    corrected = {place.event_offset for place in wanted(log, core)}
    compare(core, live, log, unchanged(live), result, corrected=corrected)

    assert result.changed == []
    assert result.before == result.after
    assert result.unlike_the_table == []
    assert result.records == len(log)


def test_a_table_that_is_not_what_the_log_says_is_told() -> None:
    log = [record(open_account(), offset=0), record(usage(), offset=1)]
    core, live = lived(log)
    result = Result()
    compare(core, live, log[:1], [], result)

    assert result.unlike_the_table == [0]


def test_a_version_that_was_published_is_replaced_where_it_took_force() -> None:
    book = flat_book("dear", effective_from=NOON + HOUR, image_analysis="30")
    events_ = [
        (NOON, open_account()),
        (NOON, publication(book)),
        (NOON, usage("image_analysis", event_id="before")),
        (NOON + HOUR, usage("image_analysis", event_id="first")),
        (NOON + HOUR, usage("image_analysis", event_id="second")),
        (NOON + HOUR, command("hold", {"hold_id": "h", "credits": "40"})),
    ]
    log = [record(event, offset=offset, at=at) for offset, (at, event) in enumerate(events_)]
    core, live = lived(log)
    cheap = flat_book("any-name", effective_from=0, image_analysis="2")
    result = Result()
    compare(core, live, log, [Change(content=cheap, is_plans=False, replaces="dear", since=None)], result)

    ((account, before, after),) = [(each.account_id, each.before, each.after) for each in result.changed]
    assert (account, before.used, after.used) == ("acct", 31_000_000, 5_000_000)
    assert (before.denied, after.denied) == (2, 0)  # 50 credits pay 1 + 30, not 30 more, nor a hold of 40.
    assert (before.limit_at, after.limit_at) == ("2026-11-23T13:00:00.000Z", None)
    assert result.unlike_the_table == []


def test_a_version_that_was_named_before_its_time_is_no_difference() -> None:
    """It was refused then; in the other run the version is there from the first record on."""
    again = {"record": {"partition": 0, "offset": 0, "event_offset": 10}, "price_book": "dear"}
    events = [
        open_account("pro"),
        usage("image_analysis"),
        command("rerate", again),
        publication(flat_book("dear", effective_from=NOON + HOUR)),
    ]
    log = [record(event, offset=at * 10) for at, event in enumerate(events)]
    core, live = lived(log)
    result = Result()
    compare(core, live, log, unchanged(live), result, corrected={10})
    assert (result.changed, result.unlike_the_table) == ([], [])


def test_what_overage_would_cost_is_told_in_money_of_closed_and_running_periods() -> None:
    """Of starter's 500 credits: 510 and 505 images at 1 credit, then 2. A credit beyond costs 0.03 EUR."""
    month = 31 * 24 * HOUR
    events_ = [
        (NOON, open_account("starter")),
        (NOON, command("configure", {"overage_ceiling": "1000"}, command_id="set")),
        (NOON, usage("image_analysis", event_id="first", images=510)),
        (NOON + month, usage("image_analysis", event_id="second", images=505, at=NOON + month)),
    ]
    log = [record(event, offset=offset, at=at) for offset, (at, event) in enumerate(events_)]
    core, live = lived(log)
    dear = flat_book("any-name", effective_from=0, image_analysis="2")
    result = Result()
    compare(core, live, log, [Change(content=dear, is_plans=False, replaces="2026-01", since=None)], result)

    (each,) = result.changed
    assert (each.before.overage, each.before.money) == (15_000_000, {"EUR": Decimal("0.45")})
    assert (each.after.overage, each.after.money) == (1_030_000_000, {"EUR": Decimal("30.9")})
    assert each.money_difference == {"EUR": Decimal("30.45")}
    assert (result.after.overage, result.after.money) == (each.after.overage, each.after.money)
    assert result.unlike_the_table == []


def test_plans_that_would_leave_an_account_without_one_are_refused() -> None:
    core, live = lived([record(open_account(), offset=0)])
    fewer = catalog("fewer", effective_from=0, without="pro")

    with pytest.raises(NotComparableError, match="'pro'"):
        compare(
            core, live, [], [Change(content=fewer, is_plans=True, replaces="2026-01", since=None)], Result()
        )
