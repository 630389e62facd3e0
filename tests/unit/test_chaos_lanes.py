"""A fault that misses is put back; one that never strikes is said, with its reason."""

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline.chaos.lanes import MISSED_IN_A_ROW_MAX, ROUNDS_MAX, Lanes
from pipeline.chaos.plan import Fault, Kind
from pipeline.chaos.strikes import Striker
from pipeline.crash_points import Phase

KILL = Fault(phase=Phase.SINK_REPEATING, kind=Kind.KILL)
TERM = Fault(phase=Phase.SINK_PLANNED, kind=Kind.TERM)


class Clumsy(Striker):
    """Misses each fault so often."""

    def __init__(self, misses: Mapping[Fault, int]) -> None:
        self.ended = threading.Event()
        self.tried = Counter[Fault]()
        self._misses = misses

    def strike(self, fault: Fault) -> str | None:
        self.tried[fault] += 1
        return "nobody came" if self.tried[fault] <= self._misses[fault] else None


def struck(misses: Mapping[Fault, int]) -> tuple[Clumsy, Lanes]:
    striker = Clumsy(misses)
    lanes = Lanes({"sink": [KILL, TERM]}, striker, lambda _: None)
    with ThreadPoolExecutor(1) as pool:
        for each in lanes.strike(pool, seconds_min=0):
            each.result()
    return striker, lanes


def test_what_missed_is_tried_again_after_the_others() -> None:
    striker, lanes = struck({KILL: 1, TERM: 0})
    assert striker.tried == {KILL: 2, TERM: 1}
    assert not lanes.missed
    assert lanes.done == lanes.planned == 2
    assert not lanes.ended.is_set()


def test_what_misses_in_every_round_is_said_with_its_reason() -> None:
    striker, lanes = struck({KILL: ROUNDS_MAX, TERM: 0})
    assert striker.tried == {KILL: ROUNDS_MAX, TERM: 1}
    assert lanes.missed == ["kill in sink-repeating: nobody came"]


def test_a_program_that_is_missed_over_and_over_ends_the_run() -> None:
    striker, lanes = struck({KILL: ROUNDS_MAX, TERM: ROUNDS_MAX})
    assert striker.tried.total() == MISSED_IN_A_ROW_MAX
    assert lanes.missed
    assert lanes.ended.is_set()
