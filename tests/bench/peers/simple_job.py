"""What the simple job charges (`kafka_streams/src/main/java/SimpleJob.java`): the judge's own word on it."""

from typing import Any, Final

import orjson

IMAGES_MAX: Final = 10_000
_NO_EVENT: Final[dict[str, Any]] = {}


def credits_of(value: bytes | None) -> int:
    """Two credits for an image of high quality, one for another, and one more if transparent; nothing for what
    cannot be read."""
    data = _object(_read(value).get("data"))
    images = data.get("images")
    if type(images) is not int or not 0 <= images <= IMAGES_MAX:
        return 0
    return images * (2 if data.get("quality") == "high" else 1) + (data.get("transparent_background") is True)


def _read(value: bytes | None) -> dict[str, Any]:
    try:
        return _object(orjson.loads(value or b"{}"))
    except orjson.JSONDecodeError:
        return _NO_EVENT


def _object(read: object) -> dict[str, Any]:
    return read if isinstance(read, dict) else _NO_EVENT  # pyright: ignore[reportUnknownVariableType]
