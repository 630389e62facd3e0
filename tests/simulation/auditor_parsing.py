"""How the auditor reads a record: strictly, with the standard library, from the product's rules on events."""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

SERVICES = (
    "image_generation", "background_removal", "image_analysis", "upscaling", "post_processing",
    "transparent_background",
)  # fmt: skip
USAGE_TYPES = {f"org.apimage.usage.{service}.v1": service for service in SERVICES}
VERBS = (
    "open",
    "grant",
    "void_grant",
    "change_plan",
    "close",
    "configure",
    "hold",
    "capture",
    "release",
    "readmit",
    "reverse",
    "rerate",
    "topup_result",
)
COMMAND_TYPES = {f"org.apimage.account.{verb}.v1": verb for verb in VERBS}
SCHEDULE = "__schedule__"
PUBLICATION_TYPES = {
    "org.apimage.schedule.price_book.v1": "services",
    "org.apimage.schedule.plan_catalog.v1": "plans",
}
"""Type → what its content has beside version and effective_from."""
KINDS = {*USAGE_TYPES, *COMMAND_TYPES, *PUBLICATION_TYPES}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc."""
CONTENT_BYTES_MAX = 65_536
TICK = "org.apimage.tick.v1"
GRANT_KINDS = {"monthly", "prepaid", "promotional", "goodwill"}
ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")
GRANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}")
RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
PACK = re.compile(r"[a-z0-9-]{1,64}")
PLAIN_DECIMAL = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
YEAR_2300_MS = 10_413_792_000_000
LEVELS_MAX = 64
COMMAND_DATA = {
    "open": {"plan"},
    "grant": {"grant_id", "kind", "credits", "priority", "effective_at", "expires_at", "source"},
    "void_grant": {"grant_id", "reason"},
    "change_plan": {"plan"},
    "close": {"reason"},
    "configure": {"overage_ceiling", "alert_thresholds", "auto_topup"},
    "hold": {"hold_id", "credits", "usage", "seconds", "partial"},
    "capture": {"hold_id", "usage"},
    "release": {"hold_id", "reason"},
    "readmit": {"usage", "letter", "known", "reason"},
    "reverse": {"record", "credits", "reason"},
    "rerate": {"record", "price_book", "reason"},
    "topup_result": {"order", "result", "reference", "reason"},
}


@dataclass(frozen=True, slots=True)
class Malformed:
    """Never to be metered. `reason` is malformed or unsigned."""

    reason: str


@dataclass(frozen=True, slots=True)
class UsageClaim:
    account: str
    source: str
    event_id: str
    occurred_ms: int
    fingerprint: bytes
    service: str
    images: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CommandClaim:
    account: str
    source: str
    event_id: str
    occurred_ms: int
    fingerprint: bytes
    verb: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PublicationClaim:
    """`content` is believed to be a book or plans, once it has the right parts and its own hash."""

    source: str
    event_id: str
    occurred_ms: int
    fingerprint: bytes
    content: dict[str, Any]
    effective_ms: int
    account: str = SCHEDULE


class NotValidError(Exception):
    """Something is not as the rules want it."""

    def __init__(self, reason: str = "malformed") -> None:
        super().__init__(reason)
        self.reason = reason


def need(condition: object, reason: str = "malformed") -> None:
    """Stop reading unless the condition holds."""
    if not condition:
        raise NotValidError(reason)


def parse(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    event_bytes_max: int,
    command_keys: Mapping[str, bytes],
) -> UsageClaim | CommandClaim | PublicationClaim | Malformed | None:
    """What a record claims; None for a tick."""
    try:
        need(value is not None and len(value) <= event_bytes_max)
        event = _event(value or b"", headers)
        if event.get("type") == TICK:
            return None
        return _claim(event, key, command_keys)
    except NotValidError as fault:
        return Malformed(fault.reason)


def _event(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
    try:
        body = _json(value)
        if any(_is_structured(*header) for header in headers):
            headers = ()
        attributes = {
            name[3:]: text.decode() for name, text in headers if name.startswith("ce_") and text is not None
        }
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise NotValidError from error
    event = {**attributes, "data": body} if attributes else body
    need(isinstance(event, dict))
    return dict(event)


def _is_structured(name: str, value: bytes | None) -> bool:
    return name == "content-type" and (value or b"").decode().lower().startswith("application/cloudevents")


def _json(value: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    def real(text: str) -> Decimal:
        number = Decimal(text)
        need(abs(number) < Decimal("1.8e308"))
        return number

    return json.loads(value.decode(), parse_constant=refuse, parse_float=real)


def _claim(
    event: dict[str, Any], key: bytes | None, keys: Mapping[str, bytes]
) -> UsageClaim | CommandClaim | PublicationClaim:
    kind, subject, data = event.get("type"), event.get("subject"), event.get("data")
    need(isinstance(kind, str) and kind in KINDS)
    need(event.get("specversion") == "1.0")
    for name in ("id", "source"):
        text = event.get(name)
        need(text and _text(text))
    is_account = isinstance(subject, str) and ACCOUNT_ID.fullmatch(subject)
    need(subject == SCHEDULE if kind in PUBLICATION_TYPES else is_account)
    need(key == str(subject).encode())
    need(isinstance(data, dict) and _levels(data) <= LEVELS_MAX)
    assert isinstance(kind, str)
    assert isinstance(data, dict)
    identity = (str(subject), str(event["source"]), str(event["id"]))
    if kind in USAGE_TYPES:
        service = USAGE_TYPES[kind]
        images = _check_usage(service, data)
        return UsageClaim(
            *identity, _instant(event.get("time")), fingerprint(kind, data), service, images, data
        )
    _check_signature(event, keys)
    if kind in PUBLICATION_TYPES:
        return _publication(kind, event, data)
    order = _command_data(COMMAND_TYPES[kind], data, event)
    return CommandClaim(
        *identity, _instant(event.get("time")), fingerprint(kind, data), COMMAND_TYPES[kind], order
    )


def _publication(kind: str, event: dict[str, Any], data: dict[str, Any]) -> PublicationClaim:
    need(data.keys() == {"content", "sha256"})
    content = data["content"]
    need(
        isinstance(content, dict) and content.keys() == {"version", "effective_from", PUBLICATION_TYPES[kind]}
    )
    whole = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    need(len(whole) <= CONTENT_BYTES_MAX and data["sha256"] == sha256(whole).hexdigest())
    at_ms, effective_ms = _instant(event.get("time")), _instant(content["effective_from"])
    need(0 <= effective_ms < YEAR_2300_MS)
    return PublicationClaim(
        event["source"], event["id"], at_ms, fingerprint(kind, data), content, effective_ms
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 256 and not CONTROL.search(value)


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_levels(each) for each in value.values()), default=0)
    return 1 + max((_levels(each) for each in value), default=0) if isinstance(value, list) else 0


def _instant(text: Any) -> int:
    need(isinstance(text, str) and RFC_3339.fullmatch(text))
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise NotValidError from error


def _check_usage(service: str, data: dict[str, Any]) -> int:
    """Returns how many images."""
    images = data.get("images", 1)
    need(_whole(images, 10_000))
    need(data.get("channel", "api") in ("web", "api"))
    if service in {"image_generation", "background_removal"}:
        need(isinstance(data.get("transparent_background", False), bool))
    if service == "image_generation":
        need(data.get("quality") in ("low", "medium", "high"))
        need(_whole(data.get("width"), 100_000) and _whole(data.get("height"), 100_000))
    elif service == "background_removal":
        need(data.get("format") is None or _tag(data["format"]))
    elif service == "image_analysis":
        languages = data.get("languages", [])
        need(isinstance(languages, list) and len(languages) <= 64 and all(_tag(each) for each in languages))
    elif service in {"upscaling", "post_processing"}:
        _check_size(data)
    return int(images)


def _check_size(data: dict[str, Any]) -> None:
    by_output = "output_width" in data and "output_height" in data
    sides = ("output_width", "output_height") if by_output else ("input_width", "input_height")
    need(all(_whole(data.get(side), 100_000) for side in sides))
    if by_output:
        return
    scale = data.get("scale")
    need(isinstance(scale, int | Decimal) and not isinstance(scale, bool))
    assert isinstance(scale, int | Decimal)
    need(0 < scale <= 64 and (Decimal(scale) * 1000) % 1 == 0)


def _whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _tag(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 64


def _check_signature(event: dict[str, Any], keys: Mapping[str, bytes]) -> None:
    keyid, signature = event.get("keyid"), event.get("signature")
    need(isinstance(keyid, str) and isinstance(signature, str) and keyid in keys, "unsigned")
    data = json.dumps(event["data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=float)
    parts = [str(event.get(name)) for name in ("id", "source", "type", "subject", "time")]
    message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in (*parts, data))
    expected = hmac.new(keys[str(keyid)], message, sha256).hexdigest()
    need(expected == signature, "unsigned")


def _hold_data(verb: str, data: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    name, seconds = data.get("hold_id"), data.get("seconds", 900)
    need(isinstance(name, str) and GRANT_ID.fullmatch(name))
    need(_whole(seconds, 86_400) and isinstance(data.get("partial", False), bool))
    if verb == "release":
        need(_text(data.get("reason", "")))
        return {"hold_id": name}
    if verb == "capture":
        return {"hold_id": name, "usage": _nested_usage(data.get("usage"), {"id", "source", "time"}, event)}
    need((data.get("credits") is None) != (data.get("usage") is None))
    if data.get("credits") is not None:
        need(not data.get("partial"))
        return {"hold_id": name, "seconds": seconds, "amount": _amount(data["credits"])}
    usage = _nested_usage(data["usage"], set(), event)
    return {
        "hold_id": name,
        "seconds": seconds,
        "usage": usage,
        "partial": data.get("partial"),
        "amount": Decimal(0),
    }


def _readmission(data: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    letter, known = data.get("letter"), data.get("known")
    need(_text(data.get("reason", "")))
    need(isinstance(letter, dict) and letter.keys() == {"partition", "offset", "accepted_at"})
    assert isinstance(letter, dict)
    need(_offset(letter["partition"]) and _offset(letter["offset"]))
    accepted_ms = _instant(letter["accepted_at"])
    need(0 <= accepted_ms < YEAR_2300_MS)
    if known is not None:
        need(isinstance(known, dict) and known.keys() == {"offset", "same_content"})
        need(_offset(known["offset"]) and isinstance(known["same_content"], bool))
    usage = _nested_usage(data.get("usage"), {"id", "source", "time"}, event)
    return {"usage": usage, "accepted_ms": accepted_ms, "known": known}


def _correction(verb: str, data: dict[str, Any]) -> dict[str, Any]:
    record = data.get("record")
    need(_text(data.get("reason", "")))
    need(isinstance(record, dict) and record.keys() == {"partition", "offset", "event_offset"})
    assert isinstance(record, dict)
    need(all(_offset(each) for each in record.values()))
    if verb == "rerate":
        need(_text(data.get("price_book")) and 1 <= len(data["price_book"]) <= 64)
        return data
    return {**data, "amount": None if data.get("credits") is None else _amount(data["credits"])}


def _offset(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _nested_usage(usage: Any, named: set[str], event: dict[str, Any]) -> UsageClaim:
    need(isinstance(usage, dict) and usage.keys() == {"type", "data"} | named)
    kind, inner = usage["type"], usage["data"]
    need(isinstance(kind, str) and kind in USAGE_TYPES and isinstance(inner, dict))
    for name in named - {"time"}:
        need(usage[name] and _text(usage[name]))
    images = _check_usage(USAGE_TYPES[kind], inner)
    whole = {**{name: event[name] for name in ("id", "source", "time")}, **usage}
    at_ms = _instant(whole["time"])
    return UsageClaim(
        event["subject"],
        whole["source"],
        whole["id"],
        at_ms,
        fingerprint(kind, inner),
        USAGE_TYPES[kind],
        images,
        inner,
    )


def _command_data(verb: str, data: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    need(data.keys() <= COMMAND_DATA[verb])
    if verb in {"hold", "capture", "release"}:
        return _hold_data(verb, data, event)
    if verb == "readmit":
        return _readmission(data, event)
    if verb in {"reverse", "rerate"}:
        return _correction(verb, data)
    if verb == "topup_result":
        need(_text(data.get("reference", "")) and _text(data.get("reason", "")))
        need(data.get("result") in ("succeeded", "declined") and _whole(data.get("order"), 2**63 - 1))
        return data
    if verb == "configure":
        return _configuration(data)
    if verb == "close":
        need(_text(data.get("reason", "")))
        return data
    if verb in {"open", "change_plan"}:
        need(_text(data.get("plan")) and 1 <= len(data["plan"]) <= 64)
        return data
    need(_text(data.get("source", "")) and _text(data.get("reason", "")))
    need(isinstance(data.get("grant_id"), str) and GRANT_ID.fullmatch(data["grant_id"]))
    return data if verb == "void_grant" else _grant_data(data)


def _configuration(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("overage_ceiling") is not None:
        _amount(data["overage_ceiling"])
    topup = data.get("auto_topup")
    if topup is not None:
        need(isinstance(topup, dict) and topup.keys() == {"threshold", "pack", "credits_max_per_period"})
        need(isinstance(topup["pack"], str) and PACK.fullmatch(topup["pack"]))
        _amount(topup["threshold"])
        _amount(topup["credits_max_per_period"])
    chosen = data.get("alert_thresholds")
    if chosen is not None:
        need(isinstance(chosen, list) and len(chosen) <= 8 and all(_whole(each, 1000) for each in chosen))
        need(chosen == sorted(set(chosen)))
    return data


def _amount(amount: Any) -> Decimal:
    need(_whole(amount, 100_000_000) or (isinstance(amount, str) and PLAIN_DECIMAL.fullmatch(amount)))
    amount = Decimal(str(amount))
    need(0 < amount <= 100_000_000 and amount * 1_000_000 % 1 == 0)
    return Decimal(amount)


def _grant_data(data: dict[str, Any]) -> dict[str, Any]:
    need(
        not data["grant_id"].startswith(("monthly:", "upgrade:", "topup:")) and data["grant_id"] != "overage"
    )
    amount, priority = data.get("credits"), data.get("priority")
    need(isinstance(data.get("kind"), str) and data["kind"] in GRANT_KINDS)
    amount = _amount(amount)
    need(priority is None or (type(priority) is int and 0 <= priority <= 100))
    effective, expires = (
        None if data.get(name) is None else _instant(data[name]) for name in ("effective_at", "expires_at")
    )
    need(all(each is None or 0 <= each < YEAR_2300_MS for each in (effective, expires)))
    need(effective is None or expires is None or effective < expires)
    return {**data, "amount": amount, "effective_ms": effective, "expires_ms": expires}


def fingerprint(kind: str, data: Any) -> bytes:
    """Of type and content, whatever the order of keys."""
    return sha256(repr((kind, _ordered(data))).encode()).digest()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, _ordered(each)) for name, each in value.items())
    return [_ordered(each) for each in value] if isinstance(value, list) else value
