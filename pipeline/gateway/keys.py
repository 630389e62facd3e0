"""API keys: what they look like, how they are kept, what they may do. A key is shown once; only its hash is kept.

`cs_live_<16 hex: its id>_<64 hex: 256 random bits>`. A hash of so many random bits cannot be guessed, so it needs
neither salt nor slowness. Records of keys count only with the signature of a command key.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import orjson
from pydantic import ValidationError

from pipeline.client.commands import CommandKey
from pipeline.client.origin import now
from pipeline.domain.instants import as_datetime
from pipeline.settings import Settings
from schemas.api_key import ApiKey
from schemas.base import ACCOUNT_ID_PATTERN
from schemas.http_api import Scope

PREFIX: Final = "cs_live_"
EVERY_SCOPE: Final[tuple[Scope, ...]] = ("ingest", "hold", "read", "billing", "admin")
_KEY: Final = re.compile(PREFIX + r"([0-9a-f]{16})_[0-9a-f]{64}")
_ACCOUNT_ID: Final = re.compile(ACCOUNT_ID_PATTERN)
_NO_HASH: Final = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whoever shows a good key."""

    key_id: str
    name: str
    scopes: frozenset[Scope]
    accounts: frozenset[str] | None
    """None: every account."""

    @property
    def source(self) -> str:
        """As which its commands stand in the log: a command's identity is (account, source, id)."""
        return f"//creditstream/gateway/{self.key_id}"

    def may(self, scope: Scope) -> bool:
        """`admin` includes `billing`; no other scope includes another."""
        return scope in self.scopes or (scope == "billing" and "admin" in self.scopes)

    def may_touch(self, account: str) -> bool:
        return self.accounts is None or account in self.accounts


class KeyRing:
    """All keys, by id. What a record said once of the end of a key stays said."""

    def __init__(self, command_keys: Mapping[str, bytes]) -> None:
        self._secrets = command_keys
        self._keys: dict[str, ApiKey] = {}
        self.refused = 0
        """Records on the topic that count for nothing: unsigned, or none of ours."""

    def apply(self, value: bytes | None) -> None:
        """Take a record of the topic."""
        key = _verified(value, self._secrets)
        if key is None:
            self.refused += 1
            return
        known = self._keys.get(key.key_id)
        if known is None or known.revoked_at is None:  # An old record that is written again revives nothing.
            self._keys[key.key_id] = _without_reach(key)

    def holder(self, shown: str) -> Holder | None:
        """Who shows this key; None for a key that is forged, cut off or revoked."""
        matched = _KEY.fullmatch(shown)
        key = self._keys.get(matched[1]) if matched else None
        # Compared also when there is nothing to compare with, and all of it: time tells nothing.
        equal = hmac.compare_digest(_NO_HASH if key is None else key.sha256, _hash(shown))
        if key is None or not equal or key.revoked_at is not None:
            return None
        return _holder(key)

    def holder_by_id(self, key_id: str) -> Holder | None:
        """For whoever has shown the key before; None once it is revoked."""
        key = self._keys.get(key_id)
        return None if key is None or key.revoked_at is not None else _holder(key)

    def get(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)

    def all(self) -> list[ApiKey]:
        """By the time of their making."""
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.key_id))


def _without_reach(key: ApiKey) -> ApiKey:
    """Older releases made bound keys with `admin`, which could give themselves credits: they count as `billing`."""
    if key.accounts is None or "admin" not in key.scopes:
        return key
    scopes = dict.fromkeys("billing" if each == "admin" else each for each in key.scopes)
    return key.model_copy(update={"scopes": list(scopes)})


def _holder(key: ApiKey) -> Holder:
    accounts = None if key.accounts is None else frozenset(key.accounts)
    return Holder(key_id=key.key_id, name=key.name, scopes=frozenset(key.scopes), accounts=accounts)


@dataclass(frozen=True, slots=True)
class NewKey:
    key: str
    record: ApiKey


def command_secrets(settings: Settings) -> dict[str, bytes]:
    """The keys that sign commands, and records of API keys."""
    return {name: bytes.fromhex(each.get_secret_value()) for name, each in settings.command_keys.items()}


def new_secret() -> str:
    """A whole new key."""
    return f"{PREFIX}{secrets.token_hex(8)}_{secrets.token_hex(32)}"


def new_key(
    signing: CommandKey,
    *,
    name: str,
    scopes: list[Scope],
    accounts: list[str] | None,
    created_by: str,
    key: str | None = None,
) -> NewKey:
    """A key and its record. Raises ValueError for an account id that is none, and for a bound key with `admin`."""
    if accounts is not None and "admin" in scopes:
        raise ValueError(
            "expected `admin` only of a key that is bound to no account (for its owner there is `billing`)"
        )
    for account in accounts or ():
        if not _ACCOUNT_ID.fullmatch(account):
            raise ValueError(f"expected an account id like {ACCOUNT_ID_PATTERN}, got {account!r}")
    key = key or new_secret()
    matched = _KEY.fullmatch(key)
    assert matched, "a key of ours has its form"
    record = ApiKey(
        key_id=matched[1],
        name=name,
        sha256=_hash(key),
        scopes=scopes,
        accounts=accounts,
        created_at=as_datetime(now()),
        created_by=created_by,
        revoked_at=None,
        revoked_by="",
        keyid=signing.key_id,
        signature=_NO_HASH,
    )
    return NewKey(key, signed(record, signing))


def revoked(record: ApiKey, signing: CommandKey, *, by: str) -> ApiKey:
    """The record of the key's end."""
    ended = record.model_copy(
        update={"revoked_at": as_datetime(now()), "revoked_by": by, "keyid": signing.key_id}
    )
    return signed(ended, signing)


def signed(record: ApiKey, signing: CommandKey) -> ApiKey:
    return record.model_copy(update={"signature": _signature(record, signing.secret)})


def _signature(record: ApiKey, secret: bytes) -> str:
    content = record.model_dump(mode="json", exclude={"signature"})
    return hmac.new(
        secret, b"api-key\0" + orjson.dumps(content, option=orjson.OPT_SORT_KEYS), sha256
    ).hexdigest()


def _verified(value: bytes | None, secrets_by_id: Mapping[str, bytes]) -> ApiKey | None:
    try:
        record = ApiKey.model_validate_json(value or b"")
    except ValidationError:
        return None
    secret = secrets_by_id.get(record.keyid)
    if secret is None or not hmac.compare_digest(record.signature, _signature(record, secret)):
        return None
    return record


def _hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_id_of(shown: str) -> str:
    """The id in a key; empty for what is none."""
    matched = _KEY.fullmatch(shown)
    return matched[1] if matched else ""


def first_request(settings: Settings) -> str:
    """A price for nothing but the demo key, ready to paste into a shell."""
    key, port = settings.gateway.demo_key.get_secret_value(), settings.gateway.port
    body = '{"usages":[{"type":"upscaling","data":{"input_width":512,"input_height":512,"scale":4}}]}'
    return (
        f"  curl -s http://127.0.0.1:{port}/v1/estimate -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' -d '{body}'"
    )
