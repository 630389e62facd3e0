"""Who is asked for money: the port, a simulated provider, and one behind HTTP.

Every provider gets the order's id as idempotency key: asked again for the same order, it answers the same and charges
once. What cannot be answered now is asked again later, never taken for a decline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

HTTP_OK_MAX: Final = 299
HTTP_PAYMENT_REQUIRED: Final = 402


@dataclass(frozen=True, slots=True)
class Paid:
    reference: str


@dataclass(frozen=True, slots=True)
class Declined:
    reason: str


class UnansweredError(Exception):
    """No answer yet: a time-out, a connection that broke, a fault of theirs. Nobody knows whether money moved."""


class PaymentProvider(Protocol):
    def charge(self, order: Mapping[str, Any]) -> Paid | Declined:
        """Ask for the money of an order (`schemas/topup_order.py`). Raises UnansweredError."""
        ...


class SimulatedProvider:
    """Answers by the order's id alone, so that a run can be repeated: a share declines, a share needs several tries."""

    def __init__(self, *, decline_percent: int, unanswered_percent: int) -> None:
        self._decline = decline_percent
        self._unanswered = unanswered_percent
        self._asked: dict[str, int] = {}

    def charge(self, order: Mapping[str, Any]) -> Paid | Declined:
        """The first two tries of an order that is hard to answer fail."""
        name = order["order_id"]
        draw = int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big") % 100
        tries = self._asked[name] = self._asked.get(name, 0) + 1
        if draw >= 100 - self._unanswered and tries <= 2:
            raise UnansweredError("simulated: no answer in time")
        del self._asked[name]
        return Declined("simulated: card declined") if draw < self._decline else Paid(f"simulated-{name}")


class HttpProvider:
    """POSTs the order as JSON with `Idempotency-Key`. 2xx is paid, 402 declined, anything else no answer."""

    def __init__(self, url: str, *, token: str, timeout_seconds: float) -> None:
        import httpx2  # noqa: PLC0415  (of the extra `serve`)

        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(timeout=timeout_seconds, headers=headers, follow_redirects=False)
        self._errors = httpx2.HTTPError
        self._url = url

    def charge(self, order: Mapping[str, Any]) -> Paid | Declined:
        try:
            response = self._client.post(
                self._url, json=dict(order), headers={"Idempotency-Key": order["order_id"]}
            )
        except self._errors as error:
            raise UnansweredError(f"{type(error).__name__}: {error}") from error
        if response.status_code <= HTTP_OK_MAX:
            return Paid(_text(response, "reference"))
        if response.status_code == HTTP_PAYMENT_REQUIRED:
            return Declined(_text(response, "reason"))
        raise UnansweredError(f"status {response.status_code}")


def _text(response: Any, name: str) -> str:  # noqa: ANN401  (httpx2 is imported where it is used)
    """An attribute of the JSON answer, as far as there is one: printable, at most 256 characters."""
    try:
        value = response.json().get(name, "")
    except (ValueError, AttributeError):
        return ""
    return "".join(each for each in str(value) if each.isprintable())[:256]
