"""Who is asked for money: the port, a simulated provider, and one behind HTTP.

Every provider gets the order's id as idempotency key: asked again for the same order, it answers the same and charges
once. What cannot be answered now is asked again later, never taken for a decline.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

HTTP_OK_MAX: Final = 299
HTTP_PAYMENT_REQUIRED: Final = 402
UNANSWERED_TRIES: Final = 2
"""Of a simulated order that is hard to answer."""


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

    def late_answers(self) -> Sequence[tuple[Mapping[str, Any], Paid | Declined]]:
        """Orders that the provider has answered by itself since this was last asked: late, or once more."""
        ...


class SimulatedProvider:
    """Answers by its seed and the order's id alone, so that a run can be repeated. A share of the orders is declined;
    whatever the answer, a share of the others needs several tries, a share is answered late, and a share twice."""

    def __init__(
        self,
        *,
        decline_percent: int = 0,
        unanswered_percent: int = 0,
        late_percent: int = 0,
        twice_percent: int = 0,
        seed: int = 0,
    ) -> None:
        self._decline = decline_percent
        manners = {"unanswered": unanswered_percent, "late": late_percent, "twice": twice_percent}
        self._manners = [name for name, percent in manners.items() for _ in range(percent)]
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._coming: list[tuple[Mapping[str, Any], Paid | Declined]] = []

    def charge(self, order: Mapping[str, Any]) -> Paid | Declined:
        """The first two tries of an order that is hard to answer fail, and every try of one that is answered late."""
        name = order["order_id"]
        draw = blake2b(f"{self._seed}:{name}".encode(), digest_size=8).digest()
        said: Paid | Declined = Declined("simulated: card declined")
        if draw[0] * 100 // 256 >= self._decline:
            said = Paid(f"simulated-{name}")
        place = int.from_bytes(draw[1:], "big") % 100
        manner = self._manners[place] if place < len(self._manners) else ""
        self._asked[name] += 1
        tries = self._asked[name]
        if (manner == "late" and tries == 1) or manner == "twice":
            self._coming.append((order, said))
        if manner == "late" or (manner == "unanswered" and tries <= UNANSWERED_TRIES):
            raise UnansweredError("simulated: no answer in time")
        del self._asked[name]
        return said

    def late_answers(self) -> Sequence[tuple[Mapping[str, Any], Paid | Declined]]:
        """Each once."""
        coming, self._coming = self._coming, []
        return coming


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

    def late_answers(self) -> Sequence[tuple[Mapping[str, Any], Paid | Declined]]:
        """None: it is asked again instead, and says the same by its idempotency key."""
        return ()


def _text(response: Any, name: str) -> str:  # noqa: ANN401  (httpx2 is imported where it is used)
    """An attribute of the JSON answer, as far as there is one: printable, at most 256 characters."""
    try:
        value = response.json().get(name, "")
    except (ValueError, AttributeError):
        return ""
    return "".join(each for each in str(value) if each.isprintable())[:256]
