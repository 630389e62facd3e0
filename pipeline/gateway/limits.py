"""What one caller may take of the gateway: a rate for each key, a size and a time for each body."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import Request

from pipeline.gateway.problems import ProblemError
from pipeline.settings import GatewaySettings
from pipeline.validate_data import shown

_JSON: Final = "application/json"


class Rates:
    """A token bucket for each key: it fills at `rate_per_second` up to `rate_burst`."""

    def __init__(self, limits: GatewaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = limits.rate_per_second
        self._burst = limits.rate_burst
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """Key id → tokens, at this reading of the clock. As many as there are keys."""

    def take(self, key_id: str, tokens: int = 1) -> None:
        """Raises a problem with `Retry-After` when the key has not so many left."""
        if tokens <= 0:
            return
        now = self._clock()
        left, at = self._buckets.get(key_id, (float(self._burst), now))
        left = min(left + (now - at) * self._rate, float(self._burst))
        if left < tokens:
            self._buckets[key_id] = (left, now)
            detail = f"expected at most {self._rate} requests or events a second from one key"
            raise ProblemError("rate_limited", detail, retry_after=(tokens - left) / self._rate)
        self._buckets[key_id] = (left - tokens, now)


async def body_of(request: Request, limits: GatewaySettings) -> bytes:
    """The whole body. Refused while it comes: neither its size nor its slowness is waited for."""
    most = limits.body_bytes_max
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most:
        raise _too_large(most)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds_max):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                chunks.append(chunk)
    except TimeoutError as error:
        detail = f"expected the whole body within {limits.body_seconds_max:g} s"
        raise ProblemError("body_too_slow", detail, headers={"Connection": "close"}) from error
    return b"".join(chunks)


def _too_large(most: int) -> ProblemError:
    # What is still to come is not read, so the connection cannot be used again.
    return ProblemError("body_too_large", f"expected at most {most} bytes", headers={"Connection": "close"})


async def object_of(request: Request, limits: GatewaySettings) -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty object."""
    body = await body_of(request, limits)
    if not body:
        return {}
    if media_type(request) != _JSON:
        raise unsupported(_JSON)
    return json_object(body)


def json_object(body: bytes) -> dict[str, Any]:
    """Raises `malformed_json` when it is none."""
    try:
        value = orjson.loads(body)
    except ValueError as error:
        raise ProblemError("malformed_json", f"expected JSON in UTF-8: {error}") from error
    if type(value) is not dict:
        raise ProblemError("malformed_json", f"expected a JSON object, got {shown(value)}")
    return value


def media_type(request: Request) -> str:
    """The content type without parameters, in small letters. Another charset than UTF-8 is refused."""
    kind, *parameters = request.headers.get("content-type", "").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise ProblemError("unsupported_media_type", f"expected UTF-8, got the charset {shown(value)}")
    return kind.strip()


def unsupported(*expected: str) -> ProblemError:
    return ProblemError("unsupported_media_type", f"expected a content type of {', '.join(expected)}")
