"""Signatures of account commands: producers may write to the log, only key holders may command.

HMAC-SHA256 over the attributes that make a command what it is and when it counts. Each part is preceded by its
length, so that no two commands give the same bytes. `source` and `time` are covered, beyond design.md's list:
identity is (account, source, id) and the window is judged by time, so an uncovered one would allow a replay.
"""

import hmac
from hashlib import sha256


def signed_bytes(*, id: str, source: str, type: str, subject: str, time: str, data_json: bytes) -> bytes:  # noqa: A002  (CloudEvents' own names)
    """What is signed. `data_json` is canonical: keys sorted, no white space."""
    parts = [each.encode() for each in (id, source, type, subject, time)] + [data_json]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign(  # noqa: PLR0913  (CloudEvents' attributes, each named at the call)
    secret: bytes,
    *,
    id: str,  # noqa: A002
    source: str,
    type: str,  # noqa: A002
    subject: str,
    time: str,
    data_json: bytes,
) -> str:
    """The signature, 64 hexadecimal digits."""
    message = signed_bytes(id=id, source=source, type=type, subject=subject, time=time, data_json=data_json)
    return hmac.new(secret, message, sha256).hexdigest()


def verified(secret: bytes, signature: str, message: bytes) -> bool:
    """Whether `signature` is this secret's over `message`, compared in constant time."""
    expected = hmac.new(secret, message, sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())
