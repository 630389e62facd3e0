"""Webhooks: POSTs signed by Standard Webhooks, to the very address that was judged.

A name is resolved here and now, every address that it has is judged, and the connection goes to one of these: what the
name resolves to a moment later counts for nothing. Redirects are answers like any other, never followed.
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from ipaddress import ip_address
from typing import Final

import httpx2 as httpx
from standardwebhooks import Webhook

from pipeline.notifications.addresses import Inside, address_fault, url_fault
from pipeline.notifier.attempts import Said
from pipeline.settings import NotifierSettings
from schemas.alert_delivery import AlertDelivery
from schemas.alert_webhook import AlertData, AlertWebhook

USER_AGENT: Final = "creditstream-notifier/1"
GONE: Final = 410
"""The receiver wants nothing more: it is not asked again."""
ADDRESSES_TRIED_MAX: Final = 3
"""Of one name, in one try."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RefusedAddressError(Exception):
    """It leads inside the network."""


def body_of(delivery: AlertDelivery) -> bytes:
    """What is signed and sent: the same bytes in every try."""
    data = AlertData.model_validate({name: getattr(delivery, name) for name in AlertData.model_fields})
    message = AlertWebhook.model_validate(
        {"type": f"account.alert.{delivery.kind}", "timestamp": delivery.accepted_at, "data": data}
    )
    return message.model_dump_json().encode()


def headers_of(delivery: AlertDelivery, body: bytes, secrets: list[str], at: datetime) -> dict[str, str]:
    """Of Standard Webhooks; a signature for each secret, so that a receiver may know either."""
    signatures = [Webhook(each).sign(delivery.delivery_id, at, body.decode()) for each in secrets]
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery.delivery_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class Poster:
    """Owns the threads that resolve names: no other's slow look-up is waited for."""

    def __init__(self, settings: NotifierSettings) -> None:
        self._settings = settings
        self._inside = Inside.of(settings.inside_allowed)
        self._tls = ssl.create_default_context()
        self._resolvers = ThreadPoolExecutor(settings.webhooks_in_flight_max, thread_name_prefix="resolve")

    async def post(self, url: str, delivery: AlertDelivery, secrets: list[str], at: datetime) -> Said:
        """What the receiver answered, within the limits of time and bytes."""
        body = body_of(delivery)
        headers = headers_of(delivery, body, secrets, at)
        seconds = self._settings.webhook_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._send(httpx.URL(url), body, headers)
        except RefusedAddressError as error:
            return Said(None, str(error), is_final=True)
        except TimeoutError:
            return Said(None, f"expected an answer within {seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Said(None, f"expected an answer, got {type(error).__name__}")

    def close(self) -> None:
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _send(self, url: httpx.URL, body: bytes, headers: dict[str, str]) -> Said:
        *others, last = await self._checked_addresses(url)
        for address in others:
            try:
                return await self._send_to(address, url, body, headers)
            except httpx.ConnectError:
                continue  # Of two families this machine may reach one.
        return await self._send_to(last, url, body, headers)

    async def _send_to(self, address: str, url: httpx.URL, body: bytes, headers: dict[str, str]) -> Said:
        # A client for this one POST: a connection that is kept belongs to an address, not to the name that it had.
        client = httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=None)
        posting = client.stream(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.host},
        )
        async with client, posting as answer:
            await self._read(answer)
        return _of_status(answer.status_code)

    async def _read(self, answer: httpx.Response) -> None:
        """As much as is allowed, so that the receiver is not cut off in the middle of a short answer."""
        left = self._settings.webhook_answer_bytes_max
        async for chunk in answer.aiter_raw():
            left -= len(chunk)
            if left <= 0:
                return

    async def _checked_addresses(self, url: httpx.URL) -> list[str]:
        """Those that the name has now, a few of them. All must be outside, or the host be allowed."""
        fault = url_fault(str(url), self._inside)
        if fault is not None:
            raise RefusedAddressError(fault)
        port = url.port or _DEFAULT_PORTS[url.scheme]
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._resolvers, lambda: socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
        )
        addresses = [ip_address(str(each[4][0]).partition("%")[0]) for each in found]
        if not self._inside.has_host(url.host):
            for each in addresses:
                fault = address_fault(each, self._inside)
                if fault is not None:
                    raise RefusedAddressError(fault)
        return list(dict.fromkeys(str(each) for each in addresses))[:ADDRESSES_TRIED_MAX]


def _of_status(status: int) -> Said:
    if 200 <= status <= 299:
        return Said(status)
    return Said(status, f"expected a 2xx answer, got {status}", is_final=status == GONE)
