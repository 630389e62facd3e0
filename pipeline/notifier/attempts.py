"""What becomes of a delivery after a try. Pure: the clock and the chance are arguments."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from schemas.alert_delivery import AlertDelivery, DeliveryStatus

SPREAD: Final = 0.1
"""Of a wait, which chance may take off: what failed together does not come back together."""
ERROR_LENGTH_MAX: Final = 200


class Said(NamedTuple):
    """What the receiver said, or why nothing came."""

    code: int | None
    error: str = ""
    """Empty: delivered."""
    is_final: bool = False
    """Trying again would end the same."""


def after(
    delivery: AlertDelivery, said: Said, at: datetime, *, waits: tuple[float, ...], chance: float
) -> AlertDelivery:
    """The delivery's next state. `waits` are seconds between tries; `chance` is in [0, 1)."""
    attempts = delivery.attempts + 1
    status: DeliveryStatus = "delivered"
    next_at: datetime | None = None
    if said.error:
        is_dead = said.is_final or attempts > len(waits)
        status = "dead" if is_dead else "retrying"
        if not is_dead:
            next_at = whole_ms(at + timedelta(seconds=waits[attempts - 1] * (1 - SPREAD * chance)))
    return delivery.model_copy(
        update={
            "status": status,
            "attempts": attempts,
            "last_code": said.code,
            "last_error": said.error[:ERROR_LENGTH_MAX],
            "next_attempt_at": next_at,
            "updated_at": at,
            "seq": delivery.seq + 1,
        }
    )


def dead_at_once(delivery: AlertDelivery, why: str) -> AlertDelivery:
    """A delivery that is not tried at all."""
    return delivery.model_copy(update={"status": "dead", "last_error": why[:ERROR_LENGTH_MAX]})


def begun_again(delivery: AlertDelivery, at: datetime) -> AlertDelivery:
    """An ended delivery that somebody asked for once more: under its id, with all its tries before it."""
    return delivery.model_copy(
        update={
            "status": "pending",
            "attempts": 0,
            "redeliveries": delivery.redeliveries + 1,
            "last_code": None,
            "last_error": "",
            "next_attempt_at": None,
            "updated_at": at,
            "seq": delivery.seq + 1,
        }
    )


def whole_ms(at: datetime) -> datetime:
    """As the wire has instants."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
