"""The client's spool: what is acknowledged comes back, in order, once; what is torn or damaged is told apart."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.client.receipts import Problem, Telling
from pipeline.client.spool import SUFFIX, Entry, Spool, line_of, read_lines

TIME = "2026-11-23T12:00:00.000Z"


def entry(number: int, padding: str = "") -> Entry:
    return Entry(b"acct", json.dumps({"id": f"e{number}", "time": TIME, "padding": padding}).encode())


class Place:
    """A directory for spools, and what they told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.told: list[Problem] = []

    def spool(self, *, bytes_max: int = 1_000_000) -> Spool:
        return Spool(self.directory, bytes_max=bytes_max, telling=Telling(self.told.append))

    def successor(self) -> Spool:
        spool = self.spool()
        spool.adopt()
        return spool

    def files(self, suffix: str = SUFFIX) -> list[Path]:
        return sorted(self.directory.glob(f"*{suffix}"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "spool")


def taken(spool: Spool, *, at_a_time: int = 7) -> list[bytes]:
    """Everything, as the sender takes it."""
    values: list[bytes] = []
    while head := spool.head(at_a_time, 1_000_000):
        values += [each.value for each in head]
        spool.advance(len(head))
    return values


def values(numbers: range) -> list[bytes]:
    return [entry(number).value for number in numbers]


def test_events_come_back_in_order_and_their_files_go(place: Place) -> None:
    spool = place.spool()
    for number in range(0, 100, 10):
        assert spool.append([entry(each) for each in range(number, number + 10)]) == 10
        assert spool.head(3, 1000)[0].value == entry(0).value
    assert (spool.events, len(place.files())) == (100, 2)
    assert taken(spool) == values(range(100))
    assert (spool.events, spool.size_bytes, spool.oldest, place.files()) == (0, 0, None, [])


def test_a_successor_adopts_what_the_dead_left_and_nobody_takes_from_the_living(place: Place) -> None:
    first, second = place.spool(), place.spool()
    first.append([entry(0), entry(1)])
    second.append([entry(2)])
    first.close()
    heir = place.successor()
    assert (heir.events, len(place.files())) == (2, 2)
    assert taken(heir) == values(range(2))
    assert taken(second) == values(range(2, 3))


def test_what_was_published_from_a_file_is_sent_again_only_after_a_crash_in_its_midst(place: Place) -> None:
    spool = place.spool()
    spool.append([entry(number) for number in range(10)])
    spool.advance(len(spool.head(4, 1_000_000)))
    assert spool.events == 6
    spool.close()
    assert taken(place.successor()) == values(range(10))


def test_the_bound_is_kept_and_room_comes_back(place: Place) -> None:
    size = len(line_of(entry(0)))
    spool = place.spool(bytes_max=size * 16)
    assert spool.append([entry(number % 10) for number in range(20)]) == 16
    assert spool.append([entry(0)]) == 0
    assert spool.size_bytes == sum(path.stat().st_size for path in place.files()) == size * 16
    spool.advance(len(spool.head(16, 1_000_000)))
    assert spool.append([entry(0)]) == 1


def test_a_torn_last_line_was_never_acknowledged_and_is_dropped(place: Place) -> None:
    spool = place.spool()
    spool.append([entry(0), entry(1)])
    spool.close()
    [path] = place.files()
    with path.open("ab") as file:
        file.write(line_of(entry(2))[:-10])
    assert taken(place.successor()) == values(range(2))
    assert [problem.kind for problem in place.told] == ["spool_torn"]
    assert place.files() == place.files(".damaged") == []


def test_a_line_that_lacks_only_its_end_is_whole() -> None:
    content = line_of(entry(0)) + line_of(entry(1))[:-1]
    assert [each.value for each in read_lines(content).entries] == values(range(2))


def test_a_damaged_line_is_told_and_its_file_kept(place: Place) -> None:
    spool = place.spool()
    spool.append([entry(0), entry(1), entry(2)])
    spool.close()
    [path] = place.files()
    path.write_bytes(path.read_bytes().replace(b'"e1"', b'"f1"'))
    heir = place.successor()
    assert taken(heir) == [entry(0).value, entry(2).value]
    assert [(problem.kind, problem.events) for problem in place.told] == [("spool_damaged", 1)]
    assert len(place.files(".damaged")) == 1
    assert (heir.events, heir.is_empty) == (0, True)


@given(st.integers(1, 20), st.data())
def test_whatever_a_crash_leaves_of_the_last_write_what_came_before_is_whole(
    events: int, data: st.DataObject
) -> None:
    lines = [line_of(entry(number)) for number in range(events)]
    acknowledged = data.draw(st.integers(0, events))
    safe = sum(len(line) for line in lines[:acknowledged])
    content = b"".join(lines)
    cut = content[: data.draw(st.integers(safe, len(content)))]
    zeros = bytes(data.draw(st.integers(0, 50)))  # A file system may have grown the file, and not filled it.
    found = read_lines(cut + zeros)
    assert [each.value for each in found.entries] == values(range(len(found.entries)))
    assert len(found.entries) >= acknowledged
    assert not found.damaged


def test_a_failed_write_counts_for_nothing_and_its_file_is_not_written_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = place.spool()
    spool.append([entry(0)])

    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            spool.append([entry(1)])
    assert spool.append([entry(1), entry(2)]) == 2
    # The failed write is there: sent twice with one id, charged once.
    assert taken(spool) == [entry(number).value for number in (0, 1, 1, 2)]
    assert (spool.events, place.files()) == (0, [])
