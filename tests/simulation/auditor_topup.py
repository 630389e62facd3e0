"""Automatic top-up as the auditor works it out: when an account must buy, and what the answers to its orders do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

NOTHING = Decimal(0)
HOUR_MS = 3_600_000


@dataclass(slots=True)
class AuditedTopup:
    chosen: Mapping[str, Any] | None = None
    orders: list[Decimal] = field(default_factory=list)
    """Credits of each."""
    is_open: bool = False
    """The newest has no answer yet."""
    armed: bool = True
    bought: Decimal = NOTHING
    declines: int = 0
    not_before_ms: int = 0
    sleeps: bool = False
    """It would have bought, were it not for the back-off."""

    def configure(self, chosen: Mapping[str, Any] | None, packs: Mapping[str, Decimal]) -> str:
        """Returns why it is refused."""
        if chosen is not None:
            credits_ = packs.get(chosen["pack"])
            if credits_ is None:
                return "unknown_pack"
            if credits_ < Decimal(str(chosen["threshold"])):
                return "pack_too_small"
            if Decimal(str(chosen["credits_max_per_period"])) < credits_:
                return "cap_too_small"
        self.chosen, self.armed = chosen, True
        return ""

    def begin_period(self) -> None:
        self.armed, self.bought = True, NOTHING

    def is_over(self, now_ms: int) -> bool:
        """Whether a back-off has ended since the last look, so that an idle account must look."""
        return self.sleeps and now_ms >= self.not_before_ms

    def look(
        self, left: Decimal, packs: Mapping[str, Decimal], now_ms: int, has_place: Callable[[], bool]
    ) -> None:
        """After a record that has changed the account: buy, if it fell below the threshold."""
        self.sleeps = False
        if self.chosen is None:
            return
        if left >= Decimal(str(self.chosen["threshold"])):
            self.armed = True
            return
        if self.is_open or not self.armed:
            return
        self.sleeps = now_ms < self.not_before_ms
        pack = packs.get(self.chosen["pack"])
        if (
            pack is None
            or self.sleeps
            or self.bought + pack > Decimal(str(self.chosen["credits_max_per_period"]))
        ):
            return
        if not has_place():
            return
        self.orders.append(pack)
        self.is_open, self.armed = True, False

    def answer(self, order: int, result: str, now_ms: int) -> str | Decimal:
        """Why the answer is refused, or the credits that it gives."""
        if order > len(self.orders):
            return "unknown_order"
        if order < len(self.orders) or not self.is_open:
            return "order_answered"
        self.is_open = False
        if result == "declined":
            self.not_before_ms = now_ms + min(HOUR_MS * 2**self.declines, 24 * HOUR_MS)
            self.declines, self.armed = self.declines + 1, True
            return NOTHING
        self.bought += self.orders[-1]
        self.declines, self.not_before_ms = 0, 0
        return self.orders[-1]
