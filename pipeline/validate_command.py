"""What `data` of each account command must hold. The models for people stand in `schemas/account_command.py`."""

import re
from collections.abc import Callable
from typing import Any, Final

from pipeline.domain.account import TopupPolicy
from pipeline.domain.commands import (
    AnswerTopup,
    CaptureHold,
    ChangePlan,
    CloseAccount,
    CommandBody,
    Configure,
    IssueGrant,
    KnownUsage,
    OpenAccount,
    PlaceHold,
    ReadmitUsage,
    RecordPlace,
    ReleaseHold,
    RerateUsage,
    ReverseUsage,
    VoidGrant,
)
from pipeline.domain.credits import Credits, parse_credits
from pipeline.domain.grants import (
    GRANT_MICROS_MAX,
    KIND_PRIORITIES,
    PRIORITY_MAX,
    RESERVED_GRANT_IDS,
    GrantId,
)
from pipeline.domain.holds import HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX
from pipeline.domain.instants import Instant, as_instant, parse_instant
from pipeline.domain.usage import UsageEvent
from pipeline.validate_data import Fault, integer, is_text, shown
from pipeline.validate_usage import SERVICES, usage_event
from schemas.account_command import (
    COMMAND_TYPE_PREFIX,
    DEFAULT_EXPIRY_LAST,
    OFFSET_MAX,
    PACK_PATTERN,
)
from schemas.base import EVENT_ID_LENGTH_MAX, GRANT_ID_PATTERN, SOURCE_LENGTH_MAX, TERM_FIRST, TERM_LAST
from schemas.usage_event import TYPE_VERSION_SUFFIX

_GRANT_ID: Final = re.compile(GRANT_ID_PATTERN)
_PACK: Final = re.compile(PACK_PATTERN)
TEXT_LENGTH_MAX: Final = 256
THRESHOLDS_MAX: Final = 8
THRESHOLD_PERCENT_MAX: Final = 1000


def _open(_: dict[str, Any], data: dict[str, Any]) -> OpenAccount:
    return OpenAccount(_text(data, "plan", 64))


def _grant(_: dict[str, Any], data: dict[str, Any]) -> IssueGrant:
    kind = data.get("kind")
    if not (isinstance(kind, str) and kind in KIND_PRIORITIES):
        raise Fault("/data/kind", f"expected one of {', '.join(KIND_PRIORITIES)}, got {shown(kind)}")
    effective_at, expires_at = _instant(data, "effective_at"), _instant(data, "expires_at")
    if expires_at is not None and effective_at is not None and expires_at <= effective_at:
        raise Fault("/data/expires_at", "expected an instant after effective_at")
    by_default = kind == "prepaid" and "expires_at" not in data
    if by_default and effective_at is not None and effective_at > as_instant(DEFAULT_EXPIRY_LAST):
        raise Fault(
            "/data/effective_at", f"expected an expires_at beside one after {DEFAULT_EXPIRY_LAST:%Y-%m-%d}"
        )
    grant_id = _grant_id(data)
    if RESERVED_GRANT_IDS.fullmatch(grant_id):
        detail = f"expected an id that the rules do not give themselves, got {shown(grant_id)}"
        raise Fault("/data/grant_id", detail)
    return IssueGrant(
        grant_id=grant_id,
        kind=kind,
        credits=_credits(data),
        priority=_priority(data, KIND_PRIORITIES[kind]),
        effective_at=effective_at,
        expires_at=expires_at,
        expires_by_default=by_default,
        source=_note(data, "source"),
    )


def _void_grant(_: dict[str, Any], data: dict[str, Any]) -> VoidGrant:
    _note(data, "reason")  # For people who read the log.
    return VoidGrant(_grant_id(data))


def _change_plan(_: dict[str, Any], data: dict[str, Any]) -> ChangePlan:
    return ChangePlan(_text(data, "plan", 64))


def _configure(_: dict[str, Any], data: dict[str, Any]) -> Configure:
    sets_overage = "overage_ceiling" in data
    ceiling = data.get("overage_ceiling")
    thresholds = data.get("alert_thresholds")
    topup = data.get("auto_topup")
    return Configure(
        sets_topup="auto_topup" in data,
        topup=None if topup is None else _topup_policy(data),
        sets_overage=sets_overage,
        overage_ceiling=None if ceiling is None else _credits(data, "overage_ceiling"),
        thresholds=None if thresholds is None else _thresholds(thresholds),
    )


def _topup_policy(data: dict[str, Any]) -> TopupPolicy:
    chosen = _object(data, "auto_topup", frozenset({"threshold", "pack", "credits_max_per_period"}))
    where, pack = "/data/auto_topup", chosen["pack"]
    if not (isinstance(pack, str) and _PACK.fullmatch(pack)):
        raise Fault(f"{where}/pack", f"expected an id like {PACK_PATTERN}, got {shown(pack)}")
    threshold = _credits(chosen, "threshold", where)
    return TopupPolicy(threshold, pack, _credits(chosen, "credits_max_per_period", where))


def _topup_result(_: dict[str, Any], data: dict[str, Any]) -> AnswerTopup:
    _note(data, "reference")
    _note(data, "reason")
    result = data.get("result")
    if result != "succeeded" and result != "declined":  # noqa: PLR1714  (a list cannot be looked up)
        raise Fault("/data/result", f"expected 'succeeded' or 'declined', got {shown(result)}")
    return AnswerTopup(integer(data, "order", OFFSET_MAX), result == "succeeded")


def _thresholds(value: object) -> tuple[int, ...]:
    if isinstance(value, list) and len(value) <= THRESHOLDS_MAX:
        numbers = [each for each in value if type(each) is int and 1 <= each <= THRESHOLD_PERCENT_MAX]
        if len(numbers) == len(value) and numbers == sorted(set(numbers)):
            return tuple(numbers)
    detail = f"expected at most {THRESHOLDS_MAX} rising integers from 1 to {THRESHOLD_PERCENT_MAX}, got {shown(value)}"
    raise Fault("/data/alert_thresholds", detail)


def _close(_: dict[str, Any], data: dict[str, Any]) -> CloseAccount:
    _note(data, "reason")
    return CloseAccount()


def _hold(event: dict[str, Any], data: dict[str, Any]) -> PlaceHold:
    has_credits, has_usage = data.get("credits") is not None, data.get("usage") is not None
    if has_credits == has_usage:
        raise Fault("/data", "expected either credits or usage")
    partial = data.get("partial", False)
    if type(partial) is not bool or (partial and has_credits):
        raise Fault(
            "/data/partial", f"expected true or false, and true only beside usage, got {shown(partial)}"
        )
    return PlaceHold(
        hold_id=_hold_id(data),
        credits=_credits(data) if has_credits else None,
        usage=_usage(event, data, _PLACED_USAGE) if has_usage else None,
        seconds=_seconds(data),
        partial=partial,
    )


def _capture(event: dict[str, Any], data: dict[str, Any]) -> CaptureHold:
    return CaptureHold(_hold_id(data), _usage(event, data, _CAPTURED_USAGE))


def _release(event: dict[str, Any], data: dict[str, Any]) -> ReleaseHold:
    del event
    _note(data, "reason")
    return ReleaseHold(_hold_id(data))


def _readmit(event: dict[str, Any], data: dict[str, Any]) -> ReadmitUsage:
    _note(data, "reason")
    letter = _object(data, "letter", frozenset({"partition", "offset", "accepted_at"}))
    for name in ("partition", "offset"):
        _offset(letter, name, "/data/letter")
    accepted_at = _instant(letter, "accepted_at", "/data/letter")
    if accepted_at is None:
        raise Fault("/data/letter/accepted_at", "expected an RFC 3339 instant, got null")
    known = None
    if data.get("known") is not None:
        found = _object(data, "known", frozenset({"offset", "same_content"}))
        if type(found["same_content"]) is not bool:
            raise Fault(
                "/data/known/same_content", f"expected true or false, got {shown(found['same_content'])}"
            )
        known = KnownUsage(_offset(found, "offset", "/data/known"), found["same_content"])
    return ReadmitUsage(_usage(event, data, _CAPTURED_USAGE), accepted_at, known)


def _reverse(_: dict[str, Any], data: dict[str, Any]) -> ReverseUsage:
    _note(data, "reason")
    amount = None if data.get("credits") is None else _credits(data)
    return ReverseUsage(_record_place(data), amount)


def _rerate(_: dict[str, Any], data: dict[str, Any]) -> RerateUsage:
    _note(data, "reason")
    return RerateUsage(_record_place(data), _text(data, "price_book", 64))


def _record_place(data: dict[str, Any]) -> RecordPlace:
    names = ("partition", "offset", "event_offset")
    record = _object(data, "record", frozenset(names))
    return RecordPlace(*[_offset(record, name, "/data/record") for name in names])


def _object(data: dict[str, Any], name: str, names: frozenset[str]) -> dict[str, Any]:
    value = data.get(name)
    if type(value) is dict and value.keys() == names:
        return value
    raise Fault(f"/data/{name}", f"expected an object with {', '.join(sorted(names))}, got {shown(value)}")


def _offset(data: dict[str, Any], name: str, where: str) -> int:
    value = data[name]
    if type(value) is int and 0 <= value <= OFFSET_MAX:
        return value
    raise Fault(f"{where}/{name}", f"expected an integer from 0 to {OFFSET_MAX}, got {shown(value)}")


_PLACED_USAGE: Final = frozenset({"type", "data"})
_CAPTURED_USAGE: Final = frozenset({"type", "data", "id", "source", "time"})


def _usage(event: dict[str, Any], data: dict[str, Any], known: frozenset[str]) -> UsageEvent:
    """The usage event inside a hold or capture. What it does not say itself, it has from the command."""
    usage = data.get("usage")
    if type(usage) is not dict or usage.keys() != known:
        raise Fault("/data/usage", f"expected an object with {', '.join(sorted(known))}, got {shown(usage)}")
    kind = usage["type"]
    service = SERVICES.get(kind) if type(kind) is str else None
    if service is None:
        raise Fault("/data/usage/type", f"expected the type of a usage event, got {shown(kind)}")
    for name, length_max in (("id", EVENT_ID_LENGTH_MAX), ("source", SOURCE_LENGTH_MAX)):
        if name in usage and not is_text(usage[name], length_max):
            raise Fault(f"/data/usage/{name}", f"expected a string of 1 to {length_max} characters")
    own = {name: event[name] for name in ("id", "source", "subject", "time")}
    try:
        return usage_event({**own, **usage}, service)
    except Fault as fault:
        raise Fault(f"/data/usage{fault.pointer}", fault.detail) from fault


def _hold_id(data: dict[str, Any]) -> str:
    value = data.get("hold_id")
    if isinstance(value, str) and _GRANT_ID.fullmatch(value):
        return value
    raise Fault("/data/hold_id", f"expected an id like {GRANT_ID_PATTERN}, got {shown(value)}")


def _seconds(data: dict[str, Any]) -> int:
    return integer(data, "seconds", HOLD_SECONDS_MAX) if "seconds" in data else HOLD_SECONDS_DEFAULT


_BODIES: Final[dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], CommandBody], frozenset[str]]]] = {
    "open": (_open, frozenset({"plan"})),
    "grant": (
        _grant,
        frozenset({"grant_id", "kind", "credits", "priority", "effective_at", "expires_at", "source"}),
    ),
    "void_grant": (_void_grant, frozenset({"grant_id", "reason"})),
    "change_plan": (_change_plan, frozenset({"plan"})),
    "configure": (_configure, frozenset({"overage_ceiling", "alert_thresholds", "auto_topup"})),
    "topup_result": (_topup_result, frozenset({"order", "result", "reference", "reason"})),
    "close": (_close, frozenset({"reason"})),
    "hold": (_hold, frozenset({"hold_id", "credits", "usage", "seconds", "partial"})),
    "capture": (_capture, frozenset({"hold_id", "usage"})),
    "release": (_release, frozenset({"hold_id", "reason"})),
    "readmit": (_readmit, frozenset({"usage", "letter", "known", "reason"})),
    "reverse": (_reverse, frozenset({"record", "credits", "reason"})),
    "rerate": (_rerate, frozenset({"record", "price_book", "reason"})),
}
COMMANDS: Final = {
    f"{COMMAND_TYPE_PREFIX}{name}{TYPE_VERSION_SUFFIX}": body for name, body in _BODIES.items()
}
"""CloudEvents type → how its `data` is read, and the attributes it may have."""


def parse_body(event: dict[str, Any], data: dict[str, Any]) -> CommandBody:
    """Read a command's data. Unlike usage, an attribute that is not known is an error: nobody's money moves by
    half-understood orders. Raises Fault."""
    read, known = COMMANDS[event["type"]]
    for name in data:
        if name not in known:
            pointer = name[:64].replace("~", "~0").replace("/", "~1")
            raise Fault(f"/data/{pointer}", f"expected only {', '.join(sorted(known))}, got {shown(name)}")
    return read(event, data)


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


def _credits(data: dict[str, Any], name: str = "credits", where: str = "/data") -> Credits:
    value = data.get(name)
    try:
        if isinstance(value, str) or type(value) is int:
            amount = parse_credits(value)
            if 0 < amount <= GRANT_MICROS_MAX:
                return amount
    except ValueError as error:
        raise Fault(f"{where}/{name}", str(error)) from error
    raise Fault(
        f"{where}/{name}", f"expected a decimal string above 0 and at most 100000000, got {shown(value)}"
    )


def _priority(data: dict[str, Any], default: int) -> int:
    value = data.get("priority")
    if value is None:
        return default
    if type(value) is int and 0 <= value <= PRIORITY_MAX:
        return value
    raise Fault("/data/priority", f"expected an integer from 0 to {PRIORITY_MAX}, got {shown(value)}")


def _instant(data: dict[str, Any], name: str, where: str = "/data") -> Instant | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Fault(f"{where}/{name}", f"expected an RFC 3339 instant, got {shown(value)}")
    try:
        at = parse_instant(value)
    except ValueError as error:
        raise Fault(f"{where}/{name}", str(error)) from error
    if not as_instant(TERM_FIRST) <= at <= as_instant(TERM_LAST):
        years = f"{TERM_FIRST.year} to {TERM_LAST.year}"
        raise Fault(f"{where}/{name}", f"expected an instant of the years {years}, got {shown(value)}")
    return at
