"""Signs commands of tests, also those that no client would make."""

import json
from typing import Any

import orjson

from pipeline.domain.signing import sign


def signed(event: dict[str, Any], key_id: str, secret: bytes) -> dict[str, Any]:
    """The event with a signature that is good, as far as one can be made: over attributes that are text."""
    names = ("id", "source", "type", "subject", "time")
    if not all(isinstance(event.get(name), str) for name in names) or not isinstance(event.get("data"), dict):
        return event
    # As the gate will read it: an integer beyond 64 bits is a float there.
    data_json = orjson.dumps(orjson.loads(json.dumps(event["data"])), option=orjson.OPT_SORT_KEYS)
    signature = sign(secret, **{name: event[name] for name in names}, data_json=data_json)
    return {**event, "keyid": key_id, "signature": signature}
