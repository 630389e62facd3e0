"""What mails say, in each language: subject, sentences, dates and numbers. Pure."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.alert_delivery import AlertDelivery
from schemas.notification_settings import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language. `{…}` are filled in by `wording`."""

    months: tuple[str, ...]
    date: str
    separators: tuple[str, str]
    """Of thousands and of decimals."""
    subjects: dict[str, str]
    leads: dict[str, str]
    used: str
    base: str
    resets: str
    button: str
    why: str
    stop: str


_ENGLISH: Final = Words(
    months=(
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    date="{day} {month} {year}, {time} ({zone})",
    separators=(",", "."),
    subjects={
        "threshold": "You have used {threshold} % of your {month} credits",
        "limit_reached": "A request did not fit into your {month} credits",
        "test": "Test: credit alerts of {account} arrive here",
    },
    leads={
        "threshold": "Account {account} has used {threshold} % of the credits of this period.",
        "limit_reached": "Account {account} was refused a request: not enough credits were left for it.",
        "test": "This is a test that somebody asked for. Nothing has happened to the credits of account {account}.",
    },
    used="Used",
    base="Credits of the period",
    resets="New credits on",
    button="Open your credits",
    why="You get this because this address is a recipient of the credit alerts of account {account}.",
    stop="Send no more of these",
)
_GERMAN: Final = Words(
    months=(
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ),
    date="{day}. {month} {year}, {time} Uhr ({zone})",
    separators=(".", ","),
    subjects={
        "threshold": "Sie haben {threshold} % Ihrer Credits für {month} verbraucht",
        "limit_reached": "Eine Anfrage passte nicht mehr in Ihre Credits für {month}",
        "test": "Test: Credit-Hinweise von {account} kommen hier an",
    },
    leads={
        "threshold": "Das Konto {account} hat {threshold} % der Credits dieses Zeitraums verbraucht.",
        "limit_reached": "Dem Konto {account} wurde eine Anfrage abgelehnt: Dafür waren nicht genug Credits übrig.",
        "test": "Dies ist ein Test, um den jemand gebeten hat. An den Credits des Kontos {account} ändert sich nichts.",
    },
    used="Verbraucht",
    base="Credits des Zeitraums",
    resets="Neue Credits am",
    button="Credits öffnen",
    why="Sie erhalten dies, weil diese Adresse Empfänger der Credit-Hinweise des Kontos {account} ist.",
    stop="Keine weiteren senden",
)
WORDS: Final[dict[Language, Words]] = {"en": _ENGLISH, "de": _GERMAN}


def wording(delivery: AlertDelivery, language: Language, time_zone: str) -> dict[str, object]:
    """Everything that a template shows, in the account's language and hours."""
    words = WORDS[language]
    zone = zone_or_utc(time_zone)
    filled = {
        "account": delivery.account_id,
        "threshold": delivery.threshold,
        "month": words.months[delivery.period_start.astimezone(zone).month - 1],
    }
    rows: list[tuple[str, str]] = []
    if delivery.kind != "test":
        rows = [
            (words.used, number(delivery.used, words)),
            (words.base, number(delivery.base, words)),
            (words.resets, date(delivery.period_end, words, zone)),
        ]
    return {
        "language": language,
        "subject": words.subjects[delivery.kind].format(**filled),
        "lead": words.leads[delivery.kind].format(**filled),
        "rows": rows,
        "button": words.button,
        "why": words.why.format(**filled),
        "stop": words.stop,
    }


def number(amount: Decimal, words: Words) -> str:
    """Credits for people: every digit that there is, none that there is not."""
    plain = f"{amount.normalize():,f}"
    thousands, decimal = words.separators
    return plain.translate({ord(","): thousands, ord("."): decimal})


def date(at: datetime, words: Words, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return words.date.format(
        day=local.day,
        month=words.months[local.month - 1],
        year=local.year,
        time=local.strftime("%H:%M"),
        zone=zone.key,
    )


def zone_or_utc(name: str) -> ZoneInfo:
    """A zone that this machine does not know is no reason to send nothing."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
