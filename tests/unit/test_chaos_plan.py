"""Which faults a seed gives."""

from collections import Counter

from pipeline.chaos import ChaosPlan
from pipeline.chaos.plan import USUAL_KINDS, Kind, faults, lanes
from pipeline.crash_points import PROGRAMS, Phase


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    first = ChaosPlan(events=1000, faults=100, seed=1)
    assert faults(first) == faults(ChaosPlan(events=1000, faults=100, seed=1))
    assert faults(first) != faults(ChaosPlan(events=1000, faults=100, seed=2))


def test_every_phase_has_its_share() -> None:
    chosen = Counter(fault.phase for fault in faults(ChaosPlan(events=1000, faults=20 * len(Phase), seed=3)))
    assert chosen == dict.fromkeys(Phase, 20)


def test_every_program_is_struck_in_every_way() -> None:
    chosen = faults(ChaosPlan(events=1000, faults=20 * len(Phase), seed=3))
    assert {fault.kind for fault in chosen} == set(USUAL_KINDS)
    for phase in Phase:
        assert {Kind.KILL, Kind.PAUSE, Kind.TERM} <= {each.kind for each in chosen if each.phase is phase}


def test_each_program_has_its_faults_in_a_lane_of_its_own() -> None:
    plan = ChaosPlan(events=1000, faults=2 * len(Phase), seed=3)
    of = lanes(plan)
    assert set(of) == set(PROGRAMS)
    assert all(fault.phase.program == program for program, planned in of.items() for fault in planned)
    assert sum(map(len, of.values())) == plan.faults


def test_disks_refuse_where_files_are_written() -> None:
    chosen = faults(ChaosPlan(events=1000, faults=20 * len(Phase), seed=3))
    struck = {kind: {each.phase for each in chosen if each.kind is kind} for kind in Kind}
    assert struck[Kind.DISK_FULL] == {Phase.WORKER_CLOSING}
    assert struck[Kind.DISK_READ_ONLY] == {Phase.WORKER_CLOSING, Phase.WORKER_CLOSED}


def test_where_nobody_could_take_over_nobody_is_removed() -> None:
    chosen = faults(ChaosPlan(events=1000, faults=320, seed=3, workers=1, sinks=1))
    assert not {Kind.REMOVE, Kind.REBALANCE} & {fault.kind for fault in chosen}
