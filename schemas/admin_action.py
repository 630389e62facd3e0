"""Admin actions: who did what through the gateway, on `metering.admin-actions.v1`, kept 400 days."""

from schemas.base import UtcInstant, WireModel


class AdminAction(WireModel):
    """One action, after its end."""

    at: UtcInstant
    """The gateway's clock."""
    action: str
    """`account.<command>`, `dead_letter.replay`, `price_book.publish`, `plan_catalog.publish`, `key.create`,
    `key.revoke`, `notifications.<what>` or `webhook.<what>`."""
    key_id: str
    key_name: str
    """Whose key it was."""
    account_id: str
    """Empty for what is about no account."""
    subject: str
    """The command's id, or the id of the key, webhook or delivery."""
    result: str
    """`done`, or the code of the problem."""
    request_id: str
    client: str
    """Address of the caller as the gateway saw it."""
