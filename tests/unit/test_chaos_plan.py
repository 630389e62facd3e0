"""Which faults a seed gives."""

from collections import Counter

from pipeline.chaos import ChaosPlan
from pipeline.chaos.plan import Kind, faults
from pipeline.crash_points import Phase


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    first = ChaosPlan(events=1000, faults=100, seed=1)
    assert faults(first) == faults(ChaosPlan(events=1000, faults=100, seed=1))
    assert faults(first) != faults(ChaosPlan(events=1000, faults=100, seed=2))


def test_every_phase_has_its_share() -> None:
    chosen = Counter(fault.phase for fault in faults(ChaosPlan(events=1000, faults=20 * len(Phase), seed=3)))
    assert chosen == dict.fromkeys(Phase, 20)


def test_every_program_is_struck_in_every_way() -> None:
    chosen = faults(ChaosPlan(events=1000, faults=20 * len(Phase), seed=3))
    assert {fault.kind for fault in chosen} == set(Kind)
    for phase in Phase:
        assert {Kind.KILL, Kind.PAUSE, Kind.TERM} <= {each.kind for each in chosen if each.phase is phase}


def test_where_nobody_could_take_over_nobody_is_removed() -> None:
    chosen = faults(ChaosPlan(events=1000, faults=320, seed=3, workers=1, sinks=1))
    assert not {Kind.REMOVE, Kind.REBALANCE} & {fault.kind for fault in chosen}
