"""`creditstream keys …`: API keys of the HTTP gateway."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.commanding import Json, signing_key
from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit, guarded

if TYPE_CHECKING:
    from schemas.api_key import ApiKey

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of the HTTP gateway.")
BY: Final = "creditstream-cli"


class ScopeName(StrEnum):
    """What a key may do."""

    ingest = "ingest"
    hold = "hold"
    read = "read"
    billing = "billing"
    admin = "admin"


def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will hold it")],
    *,
    scope: Annotated[list[ScopeName], typer.Option(help="What it may do; again for more")],
    account: Annotated[
        list[str] | None, typer.Option(metavar="ACCOUNT", help="What it may touch; again for more; else all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once: only its hash is kept.

    Example: creditstream keys create image-service --scope ingest --scope hold --account acme
    """
    from pipeline.cli.output import say, write, write_json
    from pipeline.gateway import key_log
    from pipeline.gateway.keys import new_key
    from pipeline.settings import Settings

    settings = Settings()
    try:
        made = new_key(
            signing_key(settings),
            name=name,
            scopes=[each.value for each in scope],
            accounts=account or None,
            created_by=BY,
        )
    except ValueError as error:
        raise CliError(Exit.USAGE, "expected other scopes or accounts", why=str(error)) from error
    key_log.write(settings, made.record)
    if as_json:
        write_json({"key": made.key, **_shown(made.record)})
        return
    write(made.key)
    say("Keep it now: it is not shown again.")


def list_keys(*, as_json: Json = False) -> None:
    """Show all keys, revoked ones too, without their secrets."""
    from pipeline.cli.output import write_json, write_table
    from pipeline.gateway import key_log
    from pipeline.settings import Settings

    found = [_shown(each) for each in key_log.read(Settings()).all()]
    if as_json:
        write_json({"keys": found})
        return
    names = ("key_id", "name", "scopes", "accounts", "created_at", "created_by", "revoked_at")
    write_table(names, [[_cell(each[name]) for name in names] for each in found])


def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY_ID")], *, as_json: Json = False) -> None:
    """End a key in every gateway, within moments. Exit code 3 when there is none with this id."""
    from pipeline.cli.output import say, write_json
    from pipeline.gateway import key_log
    from pipeline.gateway.keys import revoked
    from pipeline.settings import Settings

    settings = Settings()
    known = key_log.read(settings).get(key_id)
    if known is None:
        raise CliError(Exit.NOT_FOUND, f"there is no key {key_id!r}", next_step="creditstream keys list")
    ended = known if known.revoked_at else revoked(known, signing_key(settings), by=BY)
    key_log.write(settings, ended)
    if as_json:
        write_json(_shown(ended))
    else:
        say(f"Revoked {key_id} ({ended.name}).")


def sign_in(
    key_id: Annotated[
        str, typer.Argument(metavar="[KEY_ID]", help="Whose; else the local stack's own key")
    ] = "",
    *,
    as_json: Json = False,
) -> None:
    """Print a link to the account pages that signs in once, within 15 minutes, as the holder of a key."""
    from pipeline.cli.output import write, write_json
    from pipeline.gateway.keys import key_id_of
    from pipeline.pages.sessions import sign_in_link
    from pipeline.settings import Settings

    settings = Settings()
    signing_key(settings)
    chosen = key_id or key_id_of(settings.gateway.demo_key.get_secret_value())
    if not chosen:
        raise CliError(Exit.USAGE, "expected the id of a key", next_step="creditstream keys list")
    link = sign_in_link(settings, chosen)
    if as_json:
        write_json({"link": link})
    else:
        write(link)


def _shown(record: "ApiKey") -> dict[str, Any]:
    names = {"key_id", "name", "scopes", "accounts", "created_at", "created_by", "revoked_at", "revoked_by"}
    return record.model_dump(mode="json", include=names)


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def register() -> None:
    """Put the commands under `keys`."""
    commands: dict[str, Callable[..., None]] = {
        "create": create,
        "list": list_keys,
        "revoke": revoke,
        "sign-in": sign_in,
    }
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
