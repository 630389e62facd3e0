"""What a load consists of, and the three ways in which a CloudEvent becomes a Kafka record."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from pipeline.domain.signing import sign

Headers = tuple[tuple[str, bytes], ...]

STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
"""The CloudEvents Kafka binding's mark of structured mode."""


class LoadRecord(NamedTuple):
    """One record as a producer would send it."""

    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandKey:
    """What commands are signed with."""

    key_id: str
    secret: bytes = field(repr=False)


def account_id(number: int) -> str:
    """The id of the account with this rank, 0 being the busiest."""
    return f"acct-{number:06d}"


def instant(epoch_ms: int) -> str:
    """The wire's form of an instant: RFC 3339, UTC, milliseconds."""
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def command(
    key: CommandKey,
    verb: str,
    account: str,
    *,
    id: str,  # noqa: A002  (CloudEvents' own name)
    time_ms: int,
    data: dict[str, Any],
) -> LoadRecord:
    """A signed account command in structured mode."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": id,
        "source": "//load/accounts",
        "type": f"org.apimage.account.{verb}.v1",
        "subject": account,
        "time": instant(time_ms),
    }
    signature = sign(
        key.secret,
        id=id,
        source=envelope["source"],
        type=envelope["type"],
        subject=account,
        time=envelope["time"],
        data_json=orjson.dumps(data, option=orjson.OPT_SORT_KEYS),
    )
    value = orjson.dumps({**envelope, "keyid": key.key_id, "signature": signature, "data": data})
    return LoadRecord(account.encode(), value, STRUCTURED)
