"""What a record of the input log wants: one outcome, none (a tick), or beside its outcome that of usage (a capture)."""

from typing import Final

import orjson

from pipeline.kafka import Message, headers_of
from schemas.account_command import COMMAND_TYPE_PREFIX, TICK_TYPE
from schemas.publication import PLAN_CATALOG_TYPE, PRICE_BOOK_TYPE

EVENT: Final = 1
"""Usage, or what nobody can read."""
TIME: Final = 2
"""A tick: it only tells the time and has no outcome."""
CAPTURE: Final = 3
"""A command about usage: of a hold, put back, or corrected. Accepted, it has a metered record beside its result."""
CAPTURED: Final = 4
"""Such a command whose metered record was seen."""
COMMAND: Final = 5
"""Any other command, publications too."""

_KINDS: Final = {
    TICK_TYPE: TIME,
    PRICE_BOOK_TYPE: COMMAND,
    PLAN_CATALOG_TYPE: COMMAND,
    **{f"{COMMAND_TYPE_PREFIX}{name}.v1": CAPTURE for name in ("capture", "readmit", "reverse", "rerate")},
}
_COMMAND, _TICK = COMMAND_TYPE_PREFIX.encode(), TICK_TYPE.encode()
_PUBLICATION: Final = PRICE_BOOK_TYPE.removesuffix(
    "price_book.v1"
).encode()  # So begins every publication's type.
_ESCAPE: Final = b"\\u"


def kind_of(message: Message) -> int:
    """EVENT, TIME, COMMAND or CAPTURE. Looked for by name first: parsing every record is not free."""
    headers = dict(headers_of(message))
    value = message.value() or b""
    if "ce_type" in headers and not _is_structured(headers):
        return _kind(_text(headers["ce_type"]))
    if _COMMAND not in value and _TICK not in value and _PUBLICATION not in value and _ESCAPE not in value:
        return EVENT
    try:
        return _kind(orjson.loads(value)["type"])
    except (ValueError, KeyError, TypeError):
        return EVENT


def _kind(of_type: object) -> int:
    if not isinstance(of_type, str):
        return EVENT
    return _KINDS.get(of_type, COMMAND if of_type.startswith(COMMAND_TYPE_PREFIX) else EVENT)


def _is_structured(headers: dict[str, bytes | None]) -> bool:
    return _text(headers.get("content-type")).lower().startswith("application/cloudevents")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
