"""Who is signed in: a signed cookie that names the API key, never the key itself. Links for signing in once.

Every request looks the key up again, so whoever revokes it ends its sessions everywhere within moments. Signatures are
made with a secret that is derived from the command key; the older ones are still read.
"""

import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Self

from fastapi import Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pipeline.client.origin import now
from pipeline.gateway.keys import Holder, command_secrets
from pipeline.gateway.parts import parts_of
from pipeline.settings import Settings

COOKIE: Final = "creditstream_session"
SESSION_SECONDS_MAX: Final = 12 * 3600
LINK_SECONDS_MAX: Final = 15 * 60
"""A link may lie in a terminal's or a mailbox's history: it is worth nothing soon."""
_SIGNER: Final[dict[str, Any]] = {"digest_method": sha256, "key_derivation": "hmac"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What the cookie says. `key_id` is empty before anyone has signed in."""

    key_id: str = ""
    csrf: str = ""
    """Stands in every form; another site cannot know it."""
    zone: str = "UTC"
    theme: str = ""
    """`light`, `dark`; empty: as the system has it."""

    @classmethod
    def fresh(cls) -> Self:
        return cls(csrf=secrets.token_urlsafe(24))


class Sessions:
    """Reads and writes the cookie, and makes and redeems links."""

    def __init__(self, settings: Settings) -> None:
        others = command_secrets(settings)
        newest = others.pop(settings.command_key_id)
        keys = [each.hex() for each in (*others.values(), newest)]  # The last one signs.
        self._cookies = URLSafeTimedSerializer(keys, salt="creditstream.session", signer_kwargs=_SIGNER)
        self._links = URLSafeTimedSerializer(keys, salt="creditstream.sign-in", signer_kwargs=_SIGNER)
        self._secure = is_secure(settings)
        self._redeemed: dict[str, int] = {}
        """Links that were used here, until they would have ended anyway."""

    def of(self, request: Request) -> Session:
        """The request's session; a fresh one where it has none that counts."""
        try:
            found = self._cookies.loads(request.cookies.get(COOKIE, ""), max_age=SESSION_SECONDS_MAX)
            return Session(**found)
        except (BadSignature, TypeError):
            return Session.fresh()

    def write(self, response: Response, session: Session) -> None:
        content = {name: getattr(session, name) for name in ("key_id", "csrf", "zone", "theme")}
        response.set_cookie(
            COOKIE,
            str(self._cookies.dumps(content)),
            max_age=SESSION_SECONDS_MAX,
            httponly=True,
            secure=self._secure,
            samesite="lax",
        )

    def link_token(self, key_id: str) -> str:
        return str(self._links.dumps({"key_id": key_id, "nonce": secrets.token_hex(16)}))

    def key_of_link(self, token: str) -> str | None:
        """Whom the link is for; None when it is forged, ended or was used."""
        try:
            found = self._links.loads(token, max_age=LINK_SECONDS_MAX)
        except BadSignature:
            return None
        return None if found["nonce"] in self._redeemed else str(found["key_id"])

    def redeem(self, token: str) -> str | None:
        """As `key_of_link`, once."""
        key_id = self.key_of_link(token)
        if key_id is not None:
            at = now()
            self._redeemed = {each: until for each, until in self._redeemed.items() if until > at}
            self._redeemed[self._links.loads(token)["nonce"]] = at + LINK_SECONDS_MAX * 1000
        return key_id


def is_secure(settings: Settings) -> bool:
    """Whether browsers come over TLS, so that the cookie may demand it."""
    gateway = settings.gateway
    return gateway.tls_cert_file is not None or gateway.public_url.startswith("https:")


def address(settings: Settings) -> str:
    """Where browsers find the pages, without a slash at the end."""
    gateway = settings.gateway
    scheme = "https" if gateway.tls_cert_file is not None else "http"
    return gateway.public_url.rstrip("/") or f"{scheme}://127.0.0.1:{gateway.port}"


def sign_in_link(settings: Settings, key_id: str) -> str:
    """Signs its reader in as the holder of that key: once, and soon."""
    return f"{address(settings)}/sign-in?token={Sessions(settings).link_token(key_id)}"


def holder_of(request: Request, session: Session) -> Holder | None:
    """Who is signed in, if the key still counts."""
    return parts_of(request).views.keys.holder_by_id(session.key_id) if session.key_id else None


def signed_in(session: Session, key_id: str) -> Session:
    """The session after signing in: with another token for forms, so that nothing known before is of use."""
    return replace(session, key_id=key_id, csrf=Session.fresh().csrf)
