"""Keys from outside a gateway, as the command line has them: written to their topic, and read from it whole."""

from pipeline.client.commands import command_key
from pipeline.gateway import record_log
from pipeline.gateway.keys import EVERY_SCOPE, KeyRing, command_secrets, new_key
from pipeline.settings import Settings
from schemas.api_key import ApiKey
from schemas.topics import API_KEYS


def write(settings: Settings, *records: ApiKey) -> None:
    """Publish records of keys; every gateway follows within moments. Raises DeliveryError."""
    pairs = [(each.key_id.encode(), each.model_dump_json().encode()) for each in records]
    record_log.write(settings, API_KEYS, *pairs)


def write_demo_key(settings: Settings) -> None:
    """The local stack's own key, which may do everything; written at each start, the same each time."""
    signing = command_key(settings)
    assert signing is not None, "the local stack makes a command key with the demo key"
    key = settings.gateway.demo_key.get_secret_value()
    made = new_key(
        signing, name="demo", scopes=list(EVERY_SCOPE), accounts=None, created_by="creditstream up", key=key
    )
    if read(settings).get(made.record.key_id) is None:  # A revoked one stays so.
        write(settings, made.record)


def read(settings: Settings) -> KeyRing:
    """Every key that there is now."""
    ring = KeyRing(command_secrets(settings))
    record_log.read(settings, API_KEYS, ring.apply)
    return ring
