"""Dead letters: the original bytes, and why they can never be metered."""

from base64 import b64encode
from typing import Final

import orjson

from pipeline.emit.records import OutRecord, Place
from pipeline.validate import Invalid, LogRecord
from schemas.topics import DEAD_LETTERS

KEY_SHOWN_BYTES_MAX: Final = 128


def dead_letter(record: LogRecord, invalid: Invalid, place: Place) -> OutRecord:
    """An event that can never be metered, whole, with its reason."""
    key = record.key or b""
    account_id = key.decode("ascii", "replace") if len(key) <= KEY_SHOWN_BYTES_MAX else ""
    value = orjson.dumps(
        {
            "reason": invalid.reason,
            "detail": invalid.detail,
            "pointer": invalid.pointer,
            "account_id": account_id
            if account_id.isprintable() and "\N{REPLACEMENT CHARACTER}" not in account_id
            else "",
            "event_id": invalid.event_id,
            "source": invalid.source,
            "type": invalid.type,
            "accepted_at": place.accepted_text,
            "partition": place.partition,
            "offset": place.offset,
            "partition_seq": place.partition_seq,
            "key_base64": b64encode(key).decode(),
            "payload_base64": b64encode(record.value or b"").decode(),
            "headers": [
                {"name": name, "value_base64": b64encode(value or b"").decode()}
                for name, value in record.headers
            ],
        }
    )
    return OutRecord(DEAD_LETTERS, key, value, place.accepted_at)
