"""Credits: whole millionths of a credit in one integer type. The only parsing, the only formatting.

No float anywhere on the path (product.md section 2): integers inside, decimal strings on the wire,
`Decimal(18, 6)` in ClickHouse.
"""

from functools import lru_cache
from typing import Final, NewType

Credits = NewType("Credits", int)
"""An amount in millionths of a credit. Signed where it is a change."""

MICROS: Final = 1_000_000
"""Millionths in one credit."""
NO_CREDITS: Final = Credits(0)


def whole_credits(count: int) -> Credits:
    """`count` full credits."""
    return Credits(count * MICROS)


def parse_credits(text: str | int) -> Credits:
    """Credits from a plain decimal such as "8" or "0.5".

    Raises ValueError for anything that is not exact in millionths, and for NaN, infinities and exponents.
    """
    if isinstance(text, int):
        return whole_credits(text)
    whole, _, fraction = text.removeprefix("-").partition(".")
    digits = whole + fraction
    if not (whole and digits.isascii() and digits.isdigit()) or text.endswith("."):
        raise ValueError(f"expected credits as a plain decimal such as '8' or '0.5', got {text[:48]!r}")
    if len(whole) > 12 or len(fraction) > 6:  # As Decimal(18, 6) has.
        raise ValueError(f"expected at most 12 digits and six decimal places of a credit, got {text[:48]!r}")
    micros = int(whole) * MICROS + int(fraction.ljust(6, "0"))
    return Credits(-micros if text.startswith("-") else micros)


@lru_cache(maxsize=65_536)  # Costs are few, and a balance is written several times in a row.
def format_credits(amount: int) -> str:
    """The plain decimal of an amount, without trailing zeros: "8", "0.5", "-3"."""
    if amount % MICROS == 0:
        return str(amount // MICROS)
    whole, micros = divmod(abs(amount), MICROS)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{micros:06d}".rstrip("0")
