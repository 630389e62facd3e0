"""Builds and signs account commands. Only holders of a command key can; producers cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.domain.signing import sign
from pipeline.settings import Settings
from schemas.account_command import COMMAND_TYPE_PREFIX
from schemas.usage_event import TYPE_VERSION_SUFFIX


@dataclass(frozen=True, slots=True)
class CommandKey:
    """The secret that signs, and the id by which the worker finds it."""

    key_id: str
    secret: bytes = field(repr=False)


def command_key(settings: Settings) -> CommandKey | None:
    """The key of this deployment that we sign with; None when none is configured."""
    secret = settings.command_keys.get(settings.command_key_id)
    if secret is None:
        return None
    return CommandKey(settings.command_key_id, bytes.fromhex(secret.get_secret_value()))


def command_type(name: str) -> str:
    """The CloudEvents type of a command such as `open`."""
    return f"{COMMAND_TYPE_PREFIX}{name}{TYPE_VERSION_SUFFIX}"


def signed(event: Mapping[str, Any], key: CommandKey) -> dict[str, Any]:
    """The event with the key's id and signature over id, source, type, subject, time and data."""
    signature = sign(
        key.secret,
        id=event["id"],
        source=event["source"],
        type=event["type"],
        subject=event["subject"],
        time=event["time"],
        data_json=orjson.dumps(event["data"], option=orjson.OPT_SORT_KEYS),
    )
    return {**event, "keyid": key.key_id, "signature": signature}


def unsigned_command(
    name: str, *, account: str, command_id: str, source: str, time: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """A command that still needs its signature."""
    return {
        "specversion": "1.0",
        "id": command_id,
        "source": source,
        "type": command_type(name),
        "subject": account,
        "time": time,
        "datacontenttype": "application/json",
        "data": dict(data),
    }
