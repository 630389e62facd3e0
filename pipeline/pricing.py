"""Prices single usage events for people and programs that only ask: no account, no policy, nothing is charged.

The rules and their validation are the stream's own. Only the envelope may be incomplete: who asks for a price has
no id, source or account yet.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from pipeline.bootstrap import price_books
from pipeline.domain.credits import format_credits
from pipeline.domain.instants import Instant, format_instant, parse_instant
from pipeline.domain.price_book import PriceBook, book_in_force
from pipeline.domain.rating import RatedUsage, Unrated, rate
from pipeline.domain.reasons import Reason
from pipeline.domain.usage import UsageEvent
from pipeline.settings import RuleSettings
from pipeline.validate import Invalid, parse_event
from pipeline.validate_usage import SERVICES
from schemas.usage_event import TYPE_VERSION_SUFFIX, USAGE_TYPE_PREFIX

_ENVELOPE: Final = {
    "specversion": "1.0",
    "id": "unnamed",
    "source": "/unnamed",
    "subject": "unnamed",
    "time": "1970-01-01T00:00:00Z",
}
"""What an incomplete envelope is filled with. None of it decides a price."""


class Pricing:
    """Answers lines of JSON with their price. `at` chooses the book for all of them, and `book` is one; `books` are a
    schedule that takes the place of this release's."""

    def __init__(
        self,
        rules: RuleSettings,
        *,
        at: Instant | None = None,
        book: PriceBook | None = None,
        books: Sequence[PriceBook] | None = None,
        explain: bool = False,
    ) -> None:
        self._event_bytes_max = rules.event_bytes_max
        self._books = price_books() if books is None else books
        self._at = at
        self._given = book
        self._explain = explain

    def answer(self, number: int, line: bytes) -> bytes:
        """The answer to a line, which stands `number`th in its stream."""
        if len(line) > self._event_bytes_max:
            detail = f"expected at most {self._event_bytes_max} bytes, got {len(line)}"
            return _refusal(None, Invalid(Reason.TOO_LARGE, detail), line=number)
        try:
            event = orjson.loads(line)
        except ValueError as error:
            return _refusal(
                None, Invalid(Reason.MALFORMED_JSON, f"expected JSON in UTF-8: {error}"), line=number
            )
        if not isinstance(event, dict):
            return _refusal(None, Invalid(Reason.MALFORMED_JSON, "expected a JSON object"), line=number)
        return self._price(event)

    def _price(self, event: dict[str, Any]) -> bytes:
        name = event.get("id")
        book = self._book(event)
        parsed = _parsed(event)
        if isinstance(book, Invalid):
            return _refusal(name, book)
        if isinstance(parsed, Invalid):
            return _refusal(name, parsed)
        rated = rate(parsed, book)
        if isinstance(rated, Unrated):
            return _refusal(name, Invalid(Reason.UNPRICED, rated.detail, "/data"))
        answer: dict[str, Any] = {"id": name, "credits": format_credits(rated.credits)}
        return orjson.dumps({**answer, **_explanation(rated, parsed)} if self._explain else answer)

    def _book(self, event: dict[str, Any]) -> PriceBook | Invalid:
        if self._given is not None:
            return self._given
        if self._at is not None:
            return self._in_force(self._at, "")
        for name in ("accepted_at", "time"):
            if event.get(name) is not None:
                try:
                    return self._in_force(instant_of(event[name]), f"/{name}")
                except (ValueError, OverflowError) as error:
                    return Invalid(Reason.INVALID_ENVELOPE, str(error), f"/{name}")
        return self._books[-1]

    def _in_force(self, at: Instant, pointer: str) -> PriceBook | Invalid:
        first = self._books[0].effective_from
        if at < first:
            detail = f"no price book is in force before {format_instant(first)}"
            return Invalid(Reason.UNPRICED, detail, pointer)
        return book_in_force(self._books, at)


def instant_of(value: object) -> Instant:
    """An instant as RFC 3339 text or as epoch milliseconds. Raises ValueError for anything else."""
    if type(value) is int:
        return Instant(value)
    if isinstance(value, str):
        return parse_instant(value)
    raise ValueError(f"expected an RFC 3339 instant or epoch milliseconds, got {type(value).__name__}")


def _usage_type(name: object) -> object:
    """The CloudEvents type of a service that is named by itself; any other type stays as it is."""
    full = f"{USAGE_TYPE_PREFIX}{name}{TYPE_VERSION_SUFFIX}" if isinstance(name, str) else None
    return full if full in SERVICES else name


def _parsed(event: dict[str, Any]) -> UsageEvent | Invalid:
    given = {name: value for name, value in event.items() if value is not None}
    full: dict[str, Any] = {
        **_ENVELOPE,
        **given,
        "type": _usage_type(given.get("type", given.get("service"))),
    }
    subject = full["subject"]
    parsed = parse_event(full, subject.encode() if isinstance(subject, str) else None, {})
    kind = full["type"]  # A list cannot be looked up.
    if isinstance(parsed, UsageEvent) or (
        isinstance(parsed, Invalid) and isinstance(kind, str) and kind in SERVICES
    ):
        return parsed
    services = ", ".join(each.service for each in SERVICES.values())
    detail = f"expected the usage of one of {services}"
    return Invalid(Reason.UNKNOWN_TYPE, f"{detail}; got {str(full['type'])[:80]!r}", "/type")


def _explanation(rated: RatedUsage, event: UsageEvent) -> dict[str, Any]:
    return {
        "service": event.service,
        "images": event.images,
        "credits_per_image": format_credits(rated.image.credits),
        "price_book": rated.price_book.version,
        "steps": [
            {
                "rule": step.rule,
                "detail": step.detail,
                "credits_per_image": format_credits(step.credits_per_image),
            }
            for step in rated.image.steps
        ],
    }


def _refusal(name: object, invalid: Invalid, **place: int) -> bytes:
    return orjson.dumps(
        {
            "id": name,
            "credits": None,
            "reason": invalid.reason,
            "detail": invalid.detail,
            "pointer": invalid.pointer,
            **place,
        }
    )
