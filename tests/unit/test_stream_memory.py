"""What the worker remembers: identities by the hour, and when dead letters are too many."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.credits import Credits
from pipeline.domain.usage import Fingerprint
from pipeline.state import encode_answer
from pipeline.stream.dead_letter_limit import DeadLetterLimit
from pipeline.stream.identities import FORGET_IDENTITIES_MAX, IDENTITY_MEMORY_BYTES, IdentityIndex
from schemas.topics import HOUR_MS

WINDOW_HOURS = 3


def answer(accepted_at: int, offset: int = 0) -> bytes:
    return encode_answer(Fingerprint(b"f" * 8), 1, Credits(0), offset, accepted_at)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@given(st.lists(st.tuples(st.integers(0, HOUR_MS), st.integers(0, 20)), max_size=200))
def test_an_identity_is_found_for_the_whole_window_and_not_much_longer(steps: list[tuple[int, int]]) -> None:
    index = IdentityIndex(keep_ms=WINDOW_HOURS * HOUR_MS)
    clock, newest = 0, dict[bytes, int]()
    for passed, number in steps:
        clock += passed
        index.add({key(number): answer(clock)}, clock_ms=clock)
        newest[key(number)] = clock
        index.forget(clock)
        for each, accepted_at in newest.items():
            if accepted_at >= clock - WINDOW_HOURS * HOUR_MS:
                assert index.answers[each] == answer(accepted_at)
            elif accepted_at < clock - (WINDOW_HOURS + 1) * HOUR_MS:
                assert each not in index.answers
    assert index.memory_bytes == len(index) * IDENTITY_MEMORY_BYTES


def test_forgetting_is_done_in_bounded_steps() -> None:
    index = IdentityIndex(keep_ms=HOUR_MS)
    many = {key(number): answer(0) for number in range(FORGET_IDENTITIES_MAX + 1)}
    index.add(many, clock_ms=0)
    index.forget(2 * HOUR_MS)
    assert len(index) == 1
    index.forget(2 * HOUR_MS)
    assert len(index) == 0


def test_a_few_bad_records_at_the_start_prove_nothing() -> None:
    limit = DeadLetterLimit(window_records=1000, share_max=0.5)
    assert limit.exceeded_by(records=999, dead_letters=999) is None


def test_too_many_dead_letters_in_a_full_window_are_named() -> None:
    limit = DeadLetterLimit(window_records=1000, share_max=0.5)
    assert limit.exceeded_by(records=500, dead_letters=250) is None
    assert limit.exceeded_by(records=500, dead_letters=250) is None
    reason = limit.exceeded_by(records=500, dead_letters=251)
    assert reason is not None
    assert "found 501" in reason
    assert "CREDITSTREAM_WORKER__DEAD_LETTER_SHARE_MAX" in reason


def test_old_batches_leave_the_window() -> None:
    limit = DeadLetterLimit(window_records=1000, share_max=0.5)
    limit.exceeded_by(records=900, dead_letters=900)
    assert limit.exceeded_by(records=1000, dead_letters=0) is None
    assert limit.exceeded_by(records=1000, dead_letters=500) is None
