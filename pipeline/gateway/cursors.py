"""Cursors: where a list goes on. Opaque, and signed for one account, list and set of filters: no other takes them."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from hashlib import sha256
from typing import Final

import orjson

from pipeline.client.commands import CommandKey
from pipeline.gateway.problems import ProblemError
from pipeline.query.pages import Place

_SIGNATURE_BYTES: Final = 16
CURSOR_LENGTH_MAX: Final = 1024


def written(signing: CommandKey, place: Place, *about: str) -> str:
    """The cursor of a place in the list that `about` names."""
    content = orjson.dumps(place)
    return urlsafe_b64encode(_signature(signing, content, about) + content).decode().rstrip("=")


def read(signing: CommandKey, cursor: str, *about: str) -> Place:
    """The place. Raises `invalid_cursor` for one that was changed, or that is of another list."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (Error, ValueError):
        raw = b""
    signature, content = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(signing, content, about)):
        raise ProblemError(
            "invalid_cursor", "expected next_cursor of a page with this account and these filters"
        )
    return tuple(orjson.loads(content))


def _signature(signing: CommandKey, content: bytes, about: tuple[str, ...]) -> bytes:
    message = b"cursor\0" + orjson.dumps(about) + b"\0" + content
    return hmac.new(signing.secret, message, sha256).digest()[:_SIGNATURE_BYTES]
