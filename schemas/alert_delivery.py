"""How far the delivery of an alert has come, on `metering.alert-deliveries.v1`: key = account id.

One delivery for each alert and recipient or webhook; a record for each change of it, the newest `seq` counts. Written
by the notifier in the transaction that moves its position. No address stands here, so what is deleted from the settings
is gone: `target_id` names it, `target` is what may be shown.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from schemas.base import AccountId, Count, NotNegative, UtcInstant, WireModel
from schemas.notification_settings import TARGET_ID_PATTERN

DELIVERY_ID_PATTERN = r"^dlv_[0-9a-f]{32}$"
AlertKind: TypeAlias = Literal["threshold", "limit_reached", "test"]
DeliveryStatus: TypeAlias = Literal["pending", "delivered", "retrying", "dead"]


class AlertDelivery(WireModel):
    """One delivery as it stands."""

    delivery_id: Annotated[str, Field(pattern=DELIVERY_ID_PATTERN)]
    """The webhook's `webhook-id`, and in the mail's `Message-ID`: the same in every try."""
    account_id: AccountId
    alert_id: str
    kind: AlertKind
    """`test`: somebody asked for it."""
    threshold: Annotated[int, Field(ge=1, le=1000)] | None
    used: NotNegative
    base: NotNegative
    period_start: UtcInstant
    period_end: UtcInstant
    accepted_at: UtcInstant
    """When the alert was decided; of a test, when it was asked for."""
    channel: Literal["email", "webhook"]
    target_id: Annotated[str, Field(pattern=TARGET_ID_PATTERN)]
    target: str
    """A masked address, or the host of the URL."""
    status: DeliveryStatus
    """`dead`: it is not tried any more unless somebody asks for it."""
    attempts: Count
    """Since it was begun or asked for again."""
    redeliveries: Count
    """How often somebody asked for it again."""
    last_code: Annotated[int, Field(ge=0, le=999)] | None
    """The receiver's HTTP or SMTP code; null: none came."""
    last_error: Annotated[str, Field(max_length=200)]
    """Empty, or why the last try failed."""
    next_attempt_at: UtcInstant | None
    """Of a delivery that is `retrying`."""
    updated_at: UtcInstant
    """The notifier's clock."""
    seq: Count
    """1, 2, 3, … within the delivery."""
