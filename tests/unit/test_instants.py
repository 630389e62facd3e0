from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.instants import format_instant, parse_instant
from pipeline.domain.period import months_after


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00.000Z"),
        ("2026-11-23t12:00:00z", "2026-11-23T12:00:00.000Z"),
        ("2026-11-23T12:00:00.007Z", "2026-11-23T12:00:00.007Z"),
        ("2026-11-23T12:00:00.007z", "2026-11-23T12:00:00.007Z"),
        ("2026-11-23T12:00:00.1+00:00", "2026-11-23T12:00:00.100Z"),
        ("2026-11-23T12:00:00.1239Z", "2026-11-23T12:00:00.123Z"),
        ("2026-11-23T01:00:00+13:00", "2026-11-22T12:00:00.000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_read_and_written_in_utc_with_milliseconds(text: str, same: str) -> None:
    assert format_instant(parse_instant(text)) == same


@given(st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  (as Hypothesis wants it)
def test_an_instant_is_written_as_python_writes_it(at: datetime) -> None:
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert format_instant(milliseconds) == at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T12:00:00",
        "20261123T120000.000Z",
        "2026-W48-1T12:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-23T12:00:60Z",
        "2026-11-23T12:00:60.000Z",
        "2026-02-30T12:00:00.000Z",
        "2026-11-23T12:00:00.٣٣٣Z",
        "2026-11-23T12:00:00,000Z",
        "2026-11-23T12:00+00.000Z",
        "2026-11-23T12:00+01:00",
        "2026-11-23T12:00:00+01:60",
        "2026-11-23T12:00:00Z\n",
        "1795435200000        ",
    ],
)
def test_what_names_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the standard library's words vary)
        parse_instant(text)


@pytest.mark.parametrize(
    ("anchor", "months", "boundary"),
    [
        ("2026-01-31T10:00:00Z", 1, "2026-02-28T10:00:00.000Z"),
        ("2026-01-31T10:00:00Z", 2, "2026-03-31T10:00:00.000Z"),
        ("2028-01-31T10:00:00Z", 1, "2028-02-29T10:00:00.000Z"),
        ("2028-02-29T00:00:00Z", 12, "2029-02-28T00:00:00.000Z"),
        ("2026-12-15T00:00:00.250Z", 1, "2027-01-15T00:00:00.250Z"),
    ],
)
def test_a_boundary_is_clamped_to_the_month_from_the_anchor_each_time(
    anchor: str, months: int, boundary: str
) -> None:
    assert format_instant(months_after(parse_instant(anchor), months)) == boundary
