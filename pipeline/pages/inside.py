"""Calls of the gateway's own endpoints from within its process, for the holder who is signed in.

The whole way of a request is gone: key, scope, account, rate, trail of admins, metrics, problems. So a screen can show
and do what the holder's key can, and nothing else. Nothing goes over a socket.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request, Response
from starlette.types import Message, Receive, Scope, Send

from pipeline.gateway.access import HOLDER_INSIDE
from pipeline.gateway.keys import Holder
from pipeline.gateway.problems import ProblemError

_SAFE: Final = "/:@!$&'()*+,;=~-._"
_OWN: Final = frozenset({"type", "title", "status", "code", "detail", "retryable", "request_id"})
_DISCONNECTED: Final[Message] = {"type": "http.disconnect"}


@dataclass(frozen=True, slots=True)
class Inside:
    """The gateway, as one holder may use it."""

    request: Request
    holder: Holder

    async def get(self, path: str, **query: object) -> dict[str, Any]:
        """The answer. Raises the problem that the endpoint answered."""
        return await self._json("GET", path, query, b"", {})

    async def send(
        self, method: str, path: str, body: Mapping[str, Any], *, idempotency_key: str = ""
    ) -> dict[str, Any]:
        """The answer to a request that changes something."""
        headers = {"content-type": "application/json"}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        return await self._json(method, path, {}, orjson.dumps(dict(body)), headers)

    def scope(self, method: str, path: str, query: Mapping[str, object], headers: Mapping[str, str]) -> Scope:
        """A request to the endpoint, as the server would have made it."""
        given = {name: value for name, value in query.items() if value not in {None, ""}}
        outer = self.request.scope
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": outer["scheme"],
            "path": path,
            "raw_path": quote(path, safe=_SAFE).encode(),
            "query_string": urlencode(given).encode(),
            "root_path": "",
            "headers": [
                (b"x-request-id", str(self.request.state.request_id).encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": outer.get("client"),
            "server": outer.get("server"),
            "state": {},
            HOLDER_INSIDE: self.holder,
        }

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: bytes,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:
        status, content = 0, b""

        async def sent(message: Message) -> None:
            nonlocal status, content
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                content += message.get("body", b"")

        app = self.request.app
        await app(self.scope(method, path, query, headers), _receives(body), sent)
        answer: dict[str, Any] = orjson.loads(content)
        if status >= 400:
            raise _problem(answer)
        return answer


class PassedOn(Response):
    """A response that is the endpoint's own, as it streams: a file of any length."""

    def __init__(self, inside: Inside, path: str, query: Mapping[str, object]) -> None:
        super().__init__()
        self._app = inside.request.app
        self._scope = inside.scope("GET", path, query, {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await self._app(self._scope, receive, send)


def _receives(body: bytes) -> Receive:
    waiting = [body]

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        await asyncio.Event().wait()  # Nobody leaves in the middle: who asks waits for the answer.
        return _DISCONNECTED

    return receive


def _problem(answer: Mapping[str, Any]) -> ProblemError:
    members = {name: value for name, value in answer.items() if name not in _OWN}
    return ProblemError(answer["code"], answer["detail"], **members)
