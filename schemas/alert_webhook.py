"""What is POSTed to a webhook: the body of a Standard Webhooks message. See `alert_delivery.py` for its id."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.alert_delivery import AlertKind
from schemas.base import AccountId, NotNegative, UtcInstant, WireModel


class AlertData(WireModel):
    """The alert, as in `account_alert.v1`."""

    alert_id: str
    account_id: AccountId
    kind: AlertKind
    threshold: Annotated[int, Field(ge=1, le=1000)] | None
    """Percent of the period's credits; null unless the kind is `threshold`."""
    used: NotNegative
    base: NotNegative
    period_start: UtcInstant
    period_end: UtcInstant
    accepted_at: UtcInstant


class AlertWebhook(WireModel):
    """An alert as a webhook brings it. `webhook-id` is the same in every try: take each id once."""

    type: Literal["account.alert.threshold", "account.alert.limit_reached", "account.alert.test"]
    timestamp: UtcInstant
    """When it was decided. When it was sent is in the header `webhook-timestamp`, which is signed."""
    data: AlertData
