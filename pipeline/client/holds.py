"""A hold on an account's credits: set aside before the work, charged for what was finished.

    with client.hold("acme", image_generation(quality="high", width=1024, height=1024, images=8)) as hold:
        for _ in range(hold.images):
            ...  # work
            hold.done()

At the end of the block the images that are done are charged, and the rest is given back. An exception gives
everything back: whoever asked gets an error and no images. An image that fails is not `done()`, and costs nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias
from urllib.parse import quote

from pipeline.client.events import usage_event, usage_type
from pipeline.client.gateway import Gateway, GatewayAwayError, HoldRefusedError
from pipeline.client.origin import new_id, now_text
from pipeline.client.receipts import Problem, ProblemKind
from pipeline.client.usage import Usage

_RECORDED_INSTEAD: Final = frozenset({"hold_expired", "unknown_hold", "hold_released", "exceeds_hold"})
"""Refusals of a capture after which the work is still unpaid."""

Outcome: TypeAlias = Literal["captured", "recorded", "refused", "released"]
"""`recorded`: the hold was gone or the gateway away, so the same usage event went the way of `record`: charged once,
however that ends. `refused`: the rules say that it is not to be charged, see `on_problem`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a hold ended."""

    outcome: Outcome
    credits: Decimal | None
    """What was charged; None where it is not known here."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What a hold needs of its client."""

    gateway: Gateway
    source: str
    record: Callable[[dict[str, object]], None]
    """Publishes a usage event as it is."""
    tell: Callable[[Problem], None]


class Hold:
    """Credits set aside for one account. Use it in a `with`, or end it by `capture` or `release`."""

    def __init__(self, ways: Ways, account: str, usage: Usage, hold_id: str) -> None:
        self._ways = ways
        self._account = account
        self._usage = usage
        self.hold_id: Final = hold_id
        self._path = f"/v1/holds/{quote(hold_id, safe='')}"
        self.images = 0
        """For how many there are credits; with `partial` perhaps fewer than were asked for."""
        self.credits = Decimal(0)
        """What is set aside."""
        self.expires_at = ""
        """RFC 3339; then everything goes back by itself."""
        self.images_done = 0
        self.ending: Ending | None = None

    def place(self, *, seconds: int, partial: bool) -> Self:
        """Ask the gateway. Raises CreditsShortError, HoldRefusedError or GatewayAwayError."""
        terms = {
            "account_id": self._account,
            "hold_id": self.hold_id,
            "usage": {"type": usage_type(self._usage.service), "data": dict(self._usage.data)},
            "seconds": seconds,
            "partial": partial,
        }
        answer = self._ways.gateway.ask("/v1/holds", terms, idempotency_key=self.hold_id)
        placed = answer["hold"]
        self.credits = Decimal(placed["credits"])
        # An answer that is given a second time does not repeat the images; with `partial` there may be fewer.
        asked = int(self._usage.data.get("images", 1))
        self.images = asked if placed["images"] is None else placed["images"]
        self.expires_at = placed["expires_at"] or ""
        return self

    def done(self, images: int = 1) -> None:
        """So many more images are finished and will be charged. Raises ValueError beyond what is held."""
        if self.ending is not None or images < 0 or self.images_done + images > self.images:
            raise ValueError(
                f"expected at most {self.images - self.images_done} more images of hold {self.hold_id!r}, "
                f"got {images}, ended: {self.ending}"
            )
        self.images_done += images

    def capture(self) -> Ending:
        """Charge the images that are done, and give the rest back. Does not raise: the work is done."""
        assert self.images_done > 0, "a capture names finished images"
        data = dict(self._usage.of_images(self.images_done).data)
        event = usage_event(
            self._usage.service,
            account=self._account,
            event_id=new_id(),
            source=self._ways.source,
            time=now_text(),
            data=data,
        )
        used = {name: event[name] for name in ("type", "id", "source", "time", "data")}
        body = {"account_id": self._account, "usage": used}
        try:
            # Not an id made of the hold's: a service that runs a hold again would send it with another content.
            answer = self._ways.gateway.ask(f"{self._path}/capture", body, idempotency_key=new_id())
        except GatewayAwayError as error:
            return self._record_instead(event, str(error))
        except HoldRefusedError as error:
            if error.code == "exceeds_hold":
                self.release()  # The rest of what is held would stand in the way.
            if error.code in _RECORDED_INSTEAD:
                return self._record_instead(event, str(error))
            self._tell("capture_refused", str(error), event["id"])
            return self._end("refused", None)
        return self._end("captured", Decimal(answer["hold"]["credits"]))

    def _record_instead(self, event: dict[str, object], why: str) -> Ending:
        self._tell("capture_not_answered", f"recorded without the hold: {why}", str(event["id"]))
        self._ways.record(event)
        return self._end("recorded", None)

    def release(self) -> Ending:
        """Give everything back. Does not raise: what is not given back returns by itself when the hold expires."""
        try:
            self._ways.gateway.ask(
                f"{self._path}/release", {"account_id": self._account}, idempotency_key=f"{self.hold_id}/r"
            )
        except (GatewayAwayError, HoldRefusedError) as error:
            self._tell("release_not_answered", str(error), "")
        return self._end("released", Decimal(0))

    def settle(self) -> Ending:
        """What the end of the `with` does."""
        return self.ending or (self.capture() if self.images_done else self.release())

    def give_up(self) -> Ending:
        """What an exception inside the `with` does."""
        return self.ending or self.release()

    def _end(self, outcome: Outcome, credits_charged: Decimal | None) -> Ending:
        self.ending = Ending(outcome, credits_charged)
        return self.ending

    def _tell(self, kind: ProblemKind, detail: str, event_id: str) -> None:
        self._ways.tell(Problem(kind, f"hold {self.hold_id}: {detail}", event_id))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.settle()
        else:
            self.give_up()
