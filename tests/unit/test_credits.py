import pytest

from pipeline.domain.credits import format_credits, parse_credits


@pytest.mark.parametrize(
    ("text", "micros", "plain"),
    [
        ("8", 8_000_000, "8"),
        (8, 8_000_000, "8"),
        ("0.5", 500_000, "0.5"),
        ("-0.000001", -1, "-0.000001"),
        ("10.500000", 10_500_000, "10.5"),
        ("0", 0, "0"),
        ("007", 7_000_000, "7"),
        ("999999999999.999999", 999_999_999_999_999_999, "999999999999.999999"),
    ],
)
def test_credits_are_read_and_written_to_the_millionth(text: str | int, micros: int, plain: str) -> None:
    assert parse_credits(text) == micros
    assert format_credits(micros) == plain


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1e3", "NaN", "inf", "+1", "1_000", "٣", "1.0000001", "0x1", "--1", "1" * 40],
)
def test_what_is_no_plain_decimal_of_six_places_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_credits(text)
