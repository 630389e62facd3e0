"""The table on local disk: never wrong, whatever happened to its files, and without a gap after a disk refused."""

import resource
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.boundaries import Boundaries
from pipeline.domain.grants import NEVER
from pipeline.state import CURSOR_KEY, DIGEST_MODULUS, Cursor, encode_cursor, next_boundary_ms, row_digest
from pipeline.stream.compaction import compact
from pipeline.stream.compactor import Compactor
from pipeline.stream.local_rows import Found, LocalRows, read_rows
from pipeline.stream.rows import Rows
from pipeline.stream.whole_rows import Origin, UnusableError, read_whole, write_whole
from tests.stack import wait_until

ORIGIN = Origin(topic="creditstream-accounts-changelog", topic_id="id", partition=3, partitions=4)
BOOK = b"__price_book__/1"


def row(boundary: int, rest: str = "") -> bytes:
    return b'{"v":1,"boundary":%d,"rest":"%b"}' % (boundary, rest.encode())


def cursor(table: dict[bytes, bytes]) -> bytes:
    digest = sum(row_digest(key, value) for key, value in table.items() if key != CURSOR_KEY)
    return encode_cursor(
        Cursor(
            next_offset=1,
            partition_seq=1,
            clock_ms=1,
            digest=digest % DIGEST_MODULUS,
            topic_id="source",
            price_books=(),
            plan_catalogs=(),
        )
    )


def local(directory: Path, compactor: Compactor | None = None, log_bytes_min: int = 10**9) -> LocalRows:
    return LocalRows(directory, ORIGIN, log_bytes_min=log_bytes_min, compactor=compactor or Compactor())


def table_of(found: Found) -> dict[bytes, bytes]:
    whole = {} if found.whole is None else dict(found.whole) | found.whole.reserved
    return whole | found.changed


def written(directory: Path, *, compacted_after: int | None = 2) -> dict[int, dict[bytes, bytes]]:
    """A history of four batches, kept on disk one by one; what the table was at each position."""
    keeper, table = local(directory), dict[bytes, bytes]()
    history = {0: dict(table)}
    for number in range(1, 5):
        batch = {b"acct-%d" % each: row(1000 * number + each) for each in range(number, number + 3)}
        table |= batch | {BOOK: b"book"}
        table[CURSOR_KEY] = cursor(table)
        keeper.note({**batch, BOOK: b"book", CURSOR_KEY: table[CURSOR_KEY]}, 10 * number)
        keeper.close()
        history[10 * number] = dict(table)
        if number == compacted_after:
            assert compact(directory, ORIGIN, 10 * number)
    return history


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=9).filter(lambda key: key[:1] != b"_"), st.integers(0, 99)
    ),
    st.dictionaries(st.sampled_from([b"a", b"b", b"new"]), st.sampled_from([5, 50, NEVER])),
    st.integers(0, 120),
)
def test_rows_in_a_file_are_the_rows(
    tmp_path_factory: pytest.TempPathFactory, old: dict[bytes, int], new: dict[bytes, int], clock: int
) -> None:
    before = {key: row(boundary if boundary < 90 else NEVER) for key, boundary in old.items()}
    path = tmp_path_factory.mktemp("whole") / "7.whole"
    write_whole(path, before | {BOOK: b"book"}, ORIGIN, 7)
    whole = read_whole(path, ORIGIN)
    rows, line = Rows({}, whole), Boundaries(line=whole)
    changed = {key: row(boundary) for key, boundary in new.items()}
    rows.update(changed)
    line.update({key: next_boundary_ms(value) for key, value in changed.items()})

    after = before | changed
    assert dict(rows) == after
    assert len(rows) == len(after)
    assert all(
        (key in rows) == (key in after) and rows.get(key) == after.get(key) for key in (*after, b"not")
    )
    assert whole.reserved == {BOOK: b"book"}
    left = sum(row_digest(key, value) for key, value in before.items() if key not in new) % DIGEST_MODULUS
    assert whole.digest(without=new) == left
    heap = Boundaries((key, next_boundary_ms(value)) for key, value in after.items())
    for limit in (1, 3, 100):
        assert line.due(clock, limit) == heap.due(clock, limit)


def test_a_start_finds_what_was_kept(tmp_path: Path) -> None:
    history = written(tmp_path)
    found = read_rows(tmp_path, ORIGIN)
    assert found.position == 40
    assert found.whole is not None
    assert table_of(found) == history[40]


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_whatever_byte_is_damaged_or_missing_nothing_wrong_is_found(tmp_path: Path, harm: str) -> None:
    history = written(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    positions = set[int]()
    for path, content in files.items():
        # What pads the headers is the same everywhere: of it a few bytes are tried.
        places = [place for place, byte in enumerate(content) if byte != ord(" ") or not place % 1000]
        for place in (*places[:: 11 if harm == "flip" else 29], places[-1]):
            harmed = bytearray(content)
            if harm == "flip":
                harmed[place] ^= 1 << place % 8
            else:
                del harmed[place:]
            path.write_bytes(harmed)
            found = read_rows(tmp_path, ORIGIN)
            positions.add(found.position)
            assert table_of(found) == history[found.position], (path, place)
            for each, whole in files.items():
                if each == path or not each.exists():
                    each.write_bytes(whole)
    assert {0, 20, 30} <= positions


@pytest.mark.parametrize(
    "other", [{"topic": "t"}, {"topic_id": "i"}, {"partition": 2}, {"partitions": 5}], ids=str
)
def test_files_of_another_partition_are_thrown_away(
    tmp_path: Path, other: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path)
    found = read_rows(tmp_path, replace(ORIGIN, **other))  # type: ignore[arg-type]
    assert found == Found()
    assert list(tmp_path.iterdir()) == []
    assert "expected one of" in caplog.text


def test_what_stands_behind_a_gap_is_not_taken_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = written(tmp_path, compacted_after=None)
    sorted(tmp_path.iterdir())[1].unlink()
    found = read_rows(tmp_path, ORIGIN)
    assert table_of(found) == history[10]
    assert "it goes on from 20, known is only what comes before 10" in caplog.text


def test_a_table_that_is_not_what_its_cursor_says_is_thrown_away(tmp_path: Path) -> None:
    keeper = local(tmp_path)
    keeper.note({b"acct": row(1), CURSOR_KEY: cursor({b"acct": row(2)})}, 5)
    keeper.close()
    assert not compact(tmp_path, ORIGIN, 5)
    assert list(tmp_path.iterdir()) == []


def test_logs_that_grow_become_one_file_by_a_process_of_its_own(tmp_path: Path) -> None:
    compactor = Compactor()
    keeper, table = local(tmp_path, compactor, log_bytes_min=2000), dict[bytes, bytes]()
    for number in range(1, 40):
        table[b"acct-%d" % (number % 7)] = row(number, "x" * 100)
        table[CURSOR_KEY] = cursor(table)
        keeper.note(
            {b"acct-%d" % (number % 7): row(number, "x" * 100), CURSOR_KEY: table[CURSOR_KEY]}, number
        )
        keeper.keep()
        if not compactor.is_free():
            break
    wait_until("the rows are in one file", compactor.is_free)
    keeper.note({b"last": row(1)}, 100)
    keeper.close()
    assert {path.suffix for path in tmp_path.iterdir()} == {".whole", ".log"}
    assert table_of(read_rows(tmp_path, ORIGIN)) == table | {b"last": row(1)}


def test_after_a_disk_that_was_full_the_files_go_on_without_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, table = local(tmp_path), dict[bytes, bytes]()
    for number in range(1, 7):
        rows = {b"acct-%d" % each: row(number, "x" * 200) for each in range(10)}
        table |= rows
        keeper.note(rows, number)
        with files_of_at_most(1000 if 2 <= number <= 4 else resource.RLIM_INFINITY):
            keeper.keep()
        known = read_rows(tmp_path, ORIGIN)
        assert known.position in {number, 1}
        assert known.changed == {key: row(known.position, "x" * 200) for key in rows}
    keeper.close()
    assert read_rows(tmp_path, ORIGIN).position == 6
    assert caplog.text.count("rows are not kept on disk for now") == 3


def test_a_directory_that_cannot_be_written_is_said_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("no directory can be made here")
    keeper = local(tmp_path / "taken" / "3")
    assert keeper.load() == Found()
    keeper.note({b"acct": row(1)}, 5)
    keeper.close()
    assert "which refuses them" in caplog.text


def test_an_empty_file_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "5.whole").touch()
    with pytest.raises(UnusableError, match="empty"):
        read_whole(tmp_path / "5.whole", ORIGIN)
    assert read_rows(tmp_path, ORIGIN) == Found()


@contextmanager
def files_of_at_most(size: int) -> Generator[None, None, None]:
    """As on a disk that is full: what would grow beyond is cut off, then refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size if size > 0 else soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
