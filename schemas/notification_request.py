"""What the notifier is asked to do beside alerts, on `metering.notification-requests.v1`: key = account id.

A request counts only with the signature of a notification key, and only while it is young: a recorded one cannot be
played again later.
"""

from typing import Annotated, Literal

from pydantic import Field

from schemas.alert_delivery import AlertDelivery
from schemas.base import AccountId, UtcInstant, WireModel


class NotificationRequest(WireModel):
    """Send a test, or deliver once more."""

    kind: Literal["test", "redeliver"]
    account_id: AccountId
    delivery: AlertDelivery
    """From which to begin; of a delivery that is to be repeated, as it was found."""
    requested_at: UtcInstant
    requested_by: str
    keyid: str
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
