"""How values of the wire are shown to people: amounts, instants in a time zone, and words for codes."""

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

SERVICES: Final = {
    "image_generation": "Image generation",
    "background_removal": "Background removal",
    "image_analysis": "Image analysis (OCR)",
    "upscaling": "Upscaling",
    "post_processing": "Post-processing",
    "transparent_background": "Transparent background",
}
OUTCOMES: Final = {
    "metered": "charged",
    "denied": "blocked",
    "duplicate": "duplicate",
    "reversed": "taken back",
    "rerated": "priced again",
}
REASONS: Final = {
    "insufficient_credits": "not enough credits for this request",
    "credits_exhausted": "no credits left",
    "plan_paused": "plan paused until the next period or an upgrade",
    "account_closed": "the account is closed",
    "duplicate": "sent before; charged once",
}
KINDS: Final = {
    "monthly": "Monthly",
    "prepaid": "Prepaid",
    "promotional": "Promotional",
    "goodwill": "Goodwill",
    "overage": "Overage",
    "grant": "Grant",
    "usage": "Usage",
    "expiration": "Expired",
    "void": "Voided",
    "reversal": "Taken back",
}
ZONES: Final = (
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Paris",
    "Europe/Athens",
    "Africa/Johannesburg",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Asia/Dubai",
    "Asia/Kolkata",
    "Asia/Shanghai",
    "Asia/Tokyo",
    "Australia/Sydney",
    "Pacific/Auckland",
)
"""What the menu offers; `?tz=` takes any other."""


def amount(value: str | int | Decimal) -> str:
    """A decimal with its thousands apart: "12,345.5". Never through a float."""
    number = Decimal(value)
    text = f"{number:,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "\N{MINUS SIGN}")


def rounded(value: Decimal) -> str:
    """To a tenth, for what is an estimate anyway."""
    return amount(value.quantize(Decimal("0.1")))


def signed_amount(value: str | Decimal) -> str:
    """With its sign."""
    number = Decimal(value)
    return f"+{amount(number)}" if number > 0 else amount(number)


@lru_cache(maxsize=4096)
def local(instant: str, zone: str) -> datetime:
    """An instant of the wire in a zone."""
    return datetime.fromisoformat(instant).astimezone(ZoneInfo(zone))


def moment(instant: str, zone: str) -> Markup:
    """Day and time, to the second."""
    return _time(instant, f"{local(instant, zone):%-d %b %Y, %H:%M:%S}")


def minute(instant: str, zone: str) -> Markup:
    """Day and time, to the minute: for resets and expiries."""
    return _time(instant, f"{local(instant, zone):%-d %b %Y, %H:%M}")


def clock(instant: str, zone: str) -> Markup:
    """Only the time."""
    return _time(instant, f"{local(instant, zone):%H:%M:%S}")


def day(instant: str, zone: str) -> Markup:
    return _time(instant, f"{local(instant, zone):%-d %b %Y}")


def _time(instant: str, text: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(instant, text)


def lag(milliseconds: int) -> str:
    """ "0.8 s", "5 min"."""
    if milliseconds < 60_000:
        return f"{milliseconds // 1000}.{milliseconds % 1000 // 100} s"
    return f"{milliseconds // 60_000} min" if milliseconds < 7_200_000 else f"{milliseconds // 3_600_000} h"


def span(milliseconds: int) -> str:
    """How long until something, roughly: "8 days", "3 hours"."""
    for name, size in (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000)):
        count = milliseconds // size
        if count >= 1:
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "less than a minute"


def percent(part: Decimal, whole: Decimal) -> int:
    """Whole percent, rounded down: 99.9 is not yet 100."""
    return int((part * 100 / whole).to_integral_value(ROUND_FLOOR)) if whole > 0 else 0


def service(name: str) -> str:
    return SERVICES.get(name, name)


def outcome(name: str) -> str:
    return OUTCOMES.get(name, name)


def reason(name: str) -> str:
    return REASONS.get(name, name.replace("_", " "))


def kind(name: str) -> str:
    return KINDS.get(name, name.replace("_", " ").capitalize())


FILTERS: Final = {
    each.__name__: each
    for each in (
        amount,
        rounded,
        signed_amount,
        moment,
        minute,
        clock,
        day,
        lag,
        span,
        service,
        outcome,
        reason,
        kind,
    )
}
