"""What `data` of each account command must hold. The models for people stand in `schemas/account_command.py`."""

import re
from collections.abc import Callable
from typing import Any, Final

from pipeline.domain.commands import ChangePlan, CloseAccount, CommandBody, IssueGrant, OpenAccount, VoidGrant
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import GRANT_MICROS_MAX, KIND_PRIORITIES, PRIORITY_MAX, GrantId
from pipeline.domain.instants import Instant, as_instant, parse_instant
from pipeline.validate_data import Fault, is_text, shown
from schemas.account_command import COMMAND_TYPE_PREFIX, TERM_FIRST, TERM_LAST
from schemas.base import GRANT_ID_PATTERN
from schemas.usage_event import TYPE_VERSION_SUFFIX

_GRANT_ID: Final = re.compile(GRANT_ID_PATTERN)
TEXT_LENGTH_MAX: Final = 256


def _open(data: dict[str, Any]) -> OpenAccount:
    return OpenAccount(_text(data, "plan", 64))


def _grant(data: dict[str, Any]) -> IssueGrant:
    kind = data.get("kind")
    if not (isinstance(kind, str) and kind in KIND_PRIORITIES):
        raise Fault("/data/kind", f"expected one of {', '.join(KIND_PRIORITIES)}, got {shown(kind)}")
    effective_at, expires_at = _instant(data, "effective_at"), _instant(data, "expires_at")
    if expires_at is not None and effective_at is not None and expires_at <= effective_at:
        raise Fault("/data/expires_at", "expected an instant after effective_at")
    return IssueGrant(
        grant_id=_grant_id(data),
        kind=kind,
        credits=_credits(data),
        priority=_priority(data, KIND_PRIORITIES[kind]),
        effective_at=effective_at,
        expires_at=expires_at,
        source=_note(data, "source"),
    )


def _void_grant(data: dict[str, Any]) -> VoidGrant:
    _note(data, "reason")  # For people who read the log.
    return VoidGrant(_grant_id(data))


def _change_plan(data: dict[str, Any]) -> ChangePlan:
    return ChangePlan(_text(data, "plan", 64))


def _close(data: dict[str, Any]) -> CloseAccount:
    del data
    return CloseAccount()


_BODIES: Final[dict[str, tuple[Callable[[dict[str, Any]], CommandBody], frozenset[str]]]] = {
    "open": (_open, frozenset({"plan"})),
    "grant": (
        _grant,
        frozenset({"grant_id", "kind", "credits", "priority", "effective_at", "expires_at", "source"}),
    ),
    "void_grant": (_void_grant, frozenset({"grant_id", "reason"})),
    "change_plan": (_change_plan, frozenset({"plan"})),
    "close": (_close, frozenset({"reason"})),
}
COMMANDS: Final = {
    f"{COMMAND_TYPE_PREFIX}{name}{TYPE_VERSION_SUFFIX}": body for name, body in _BODIES.items()
}
"""CloudEvents type → how its `data` is read, and the attributes it may have."""


def parse_body(kind: str, data: dict[str, Any]) -> CommandBody:
    """Read a command's data. Unlike usage, an attribute that is not known is an error: nobody's money moves by
    half-understood orders. Raises Fault."""
    read, known = COMMANDS[kind]
    for name in data:
        if name not in known:
            pointer = name[:64].replace("~", "~0").replace("/", "~1")
            raise Fault(f"/data/{pointer}", f"expected only {', '.join(sorted(known))}, got {shown(name)}")
    return read(data)


def _text(data: dict[str, Any], name: str, length_max: int) -> str:
    value = data.get(name)
    if isinstance(value, str) and is_text(value, length_max):
        return value
    detail = (
        f"expected a string of 1 to {length_max} characters without control characters, got {shown(value)}"
    )
    raise Fault(f"/data/{name}", detail)


def _note(data: dict[str, Any], name: str) -> str:
    """Words for people; may be empty or left out."""
    return "" if data.get(name, "") == "" else _text(data, name, TEXT_LENGTH_MAX)


def _grant_id(data: dict[str, Any]) -> GrantId:
    value = data.get("grant_id")
    if isinstance(value, str) and _GRANT_ID.fullmatch(value):
        return GrantId(value)
    raise Fault("/data/grant_id", f"expected an id like {GRANT_ID_PATTERN}, got {shown(value)}")


def _credits(data: dict[str, Any]) -> Credits:
    value = data.get("credits")
    try:
        if isinstance(value, str) or type(value) is int:
            amount = parse_credits(value)
            if 0 < amount <= GRANT_MICROS_MAX:
                return amount
    except ValueError as error:
        raise Fault("/data/credits", str(error)) from error
    raise Fault(
        "/data/credits", f"expected a decimal string above 0 and at most 100000000, got {shown(value)}"
    )


def _priority(data: dict[str, Any], default: int) -> int:
    value = data.get("priority")
    if value is None:
        return default
    if type(value) is int and 0 <= value <= PRIORITY_MAX:
        return value
    raise Fault("/data/priority", f"expected an integer from 0 to {PRIORITY_MAX}, got {shown(value)}")


def _instant(data: dict[str, Any], name: str) -> Instant | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Fault(f"/data/{name}", f"expected an RFC 3339 instant, got {shown(value)}")
    try:
        at = parse_instant(value)
    except ValueError as error:
        raise Fault(f"/data/{name}", str(error)) from error
    if not as_instant(TERM_FIRST) <= at <= as_instant(TERM_LAST):
        years = f"{TERM_FIRST.year} to {TERM_LAST.year}"
        raise Fault(f"/data/{name}", f"expected an instant of the years {years}, got {shown(value)}")
    return at
