"""What the worker remembers: identities by the hour, and when dead letters are too many."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.credits import Credits
from pipeline.domain.usage import Fingerprint
from pipeline.state import IDENTITY_BYTES, encode_answer, pack_identities
from pipeline.stream.closed_hours import ClosedHours
from pipeline.stream.dead_letter_limit import DeadLetterLimit
from pipeline.stream.identities import OPEN_IDENTITY_BYTES, IdentityIndex
from schemas.topics import HOUR_MS

WINDOW_HOURS = 3


def answer(accepted_at: int, offset: int = 0) -> bytes:
    return encode_answer(Fingerprint(b"f" * 8), 1, Credits(0), offset, accepted_at)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


Topic = list[tuple[bytes, int]]


def started(directory: Path | None = None, topic: Topic | None = None, *, clock_ms: int = 0) -> IdentityIndex:
    """The index of a worker that has just loaded its partition."""
    closed = ClosedHours(directory=directory, topic_id="topic", partition=3)
    known = IdentityIndex(closed, keep_ms=WINDOW_HOURS * HOUR_MS, clock_ms=clock_ms)
    for _ in known.load(lambda since: iter([each for each in topic or [] if each[1] >= since])):
        pass
    return known


STEPS = st.tuples(st.integers(0, HOUR_MS), st.integers(0, 20), st.sampled_from(["", "", "close", "restart"]))


@given(st.lists(STEPS, max_size=100))
def test_an_identity_is_found_for_the_whole_window_and_not_much_longer(
    steps: list[tuple[int, int, str]],
) -> None:
    """However late hours are closed, and whatever of it a restart finds on disk or must read again."""
    with TemporaryDirectory() as name:
        known = started(Path(name))
        clock, newest, topic = 0, dict[bytes, int](), Topic()
        for passed, number, then in steps:
            clock += passed
            said = {key(number): answer(clock)}
            topic.append((pack_identities(said), clock))
            known.add(said, clock_ms=clock)
            known.forget(clock)
            newest[key(number)] = clock
            if then == "close" and known.wants_closing:
                known.close_hours()
            elif then == "restart":
                known = started(Path(name), topic, clock_ms=clock)
            for each, accepted_at in newest.items():
                if accepted_at >= clock - WINDOW_HOURS * HOUR_MS:
                    assert known.get(each) == answer(accepted_at)
                elif accepted_at < clock - (WINDOW_HOURS + 1) * HOUR_MS:
                    assert known.get(each) is None or then == "close"  # Taken over with the next batch.
            assert known.get(key(99)) is None


def filled(directory: Path, hours: int) -> tuple[int, Topic]:
    """An index that has lived for some hours and closed all but the last: its clock, and the topic."""
    known, topic = started(directory), Topic()
    for hour in range(hours):
        clock = hour * HOUR_MS + 7
        said = {key(1000 * hour + number): answer(clock, number) for number in range(500)}
        topic.append((pack_identities(said), clock))
        known.add(said, clock_ms=clock)
        known.close_hours()
        known.forget(clock)
    return topic[-1][1], topic


def test_a_start_reads_from_the_topic_only_what_no_file_has(tmp_path: Path) -> None:
    clock, topic = filled(tmp_path, 3)
    known = started(tmp_path, topic[-1:], clock_ms=clock)
    assert len(known) == 1500
    there = [known.get(key(number)) is not None for number in (0, 499, 500, 1007, 2499)]
    assert there == [True, True, False, True, True]
    assert known.memory_bytes < 500 * OPEN_IDENTITY_BYTES + 1000 * 24


@pytest.mark.parametrize("harm", ["bit", "cut", "header", "hour", "foreign", "partition", "gone"])
def test_a_file_that_is_damaged_foreign_or_gone_is_read_from_the_topic(tmp_path: Path, harm: str) -> None:
    clock, topic = filled(tmp_path, 4)
    first, _, last = sorted(tmp_path.iterdir())
    content = bytearray(first.read_bytes())
    match harm:
        case "bit":
            content[-5] ^= 1
        case "cut":
            del content[-IDENTITY_BYTES:]
        case "header":
            content[0] = 0
        case "hour":
            content = bytearray(last.read_bytes())
        case "foreign":
            content = bytearray(content.replace(b'"topic"', b'"other"'))
        case "partition":
            content = bytearray(content.replace(b'"partition":3', b'"partition":2'))
        case _:
            first.unlink()
    if harm != "gone":
        first.write_bytes(content)

    known = started(tmp_path, topic, clock_ms=clock)

    assert len(known) == 2000
    assert all(known.get(key(1000 * hour + 5)) == answer(hour * HOUR_MS + 7, 5) for hour in range(4))


def test_a_disk_that_refuses_costs_memory_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("no directory can be made here")
    known = started(tmp_path / "taken")
    known.add({key(1): answer(0)}, clock_ms=0)
    known.add({key(2): answer(HOUR_MS)}, clock_ms=HOUR_MS)
    known.close_hours()
    known.forget(HOUR_MS)
    assert known.get(key(1)) == answer(0)
    assert "stay in memory" in caplog.text


def test_of_a_key_that_stands_twice_in_an_hour_the_newest_answer_counts() -> None:
    twice = [(pack_identities({key(1): answer(at, at)}), at) for at in (1, 2)]
    for clock in (3, 2 * HOUR_MS):  # Open, and closed.
        assert started(None, twice, clock_ms=clock).get(key(1)) == answer(2, 2)


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
