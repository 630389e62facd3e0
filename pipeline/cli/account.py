"""`creditstream account …`: signed commands, and what an account holds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipeline.client.commands import CommandKey
    from pipeline.settings import Settings

SOURCE: Final = "/operators/creditstream-cli"

app = typer.Typer(no_args_is_help=True, help="Open accounts, give and take back credits, show what is there.")
Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]
CommandId = Annotated[str, typer.Option("--id", help="Of the command; the same for every resend")]
Instant = Annotated[
    str | None, typer.Option(metavar="INSTANT", help="RFC 3339, such as 2027-01-01T00:00:00Z")
]


def open_account(
    account: Account,
    *,
    plan: Annotated[str, typer.Option(help="Of the plan catalogue: free, starter, pro, …")] = "free",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Open an account on a plan; its first monthly grant follows at once."""
    from schemas.account_command import OpenAccount

    _command("open", account, _checked(OpenAccount, plan=plan), command_id, as_json=as_json)


def grant(
    account: Account,
    credits: Annotated[str, typer.Argument(metavar="CREDITS", help="A plain decimal")],  # noqa: A002
    *,
    kind: Annotated[Literal["prepaid", "promotional", "goodwill", "monthly"], typer.Option()] = "prepaid",
    grant_id: Annotated[str, typer.Option("--grant-id", help="Made up if left out")] = "",
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="Lower burns first")] = None,
    expires: Instant = None,
    effective: Instant = None,
    note: Annotated[
        str, typer.Option("--source", help="Where the credits come from: an order, a ticket")
    ] = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Give credits to an account."""
    from pipeline.client.origin import new_id
    from schemas.account_command import IssueGrant

    name = command_id or new_id()
    data = _checked(
        IssueGrant,
        grant_id=grant_id or f"grant-{name}",
        kind=kind,
        credits=credits,
        priority=priority,
        effective_at=effective,
        expires_at=expires,
        source=note,
    )
    _command("grant", account, data, name, as_json=as_json)


def void_grant(
    account: Account,
    grant_id: Annotated[str, typer.Argument(metavar="GRANT_ID")],
    *,
    reason: Annotated[str, typer.Option(help="For the record")] = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Take back what is left of a grant. What was used stays used."""
    from schemas.account_command import VoidGrant

    _command(
        "void_grant",
        account,
        _checked(VoidGrant, grant_id=grant_id, reason=reason),
        command_id,
        as_json=as_json,
    )


def _checked(model: "type[BaseModel]", **data: Any) -> dict[str, Any]:
    """The command's data as the wire has it. A slip of the fingers ends here, with exit code 2."""
    from pydantic import ValidationError

    given = {name: value for name, value in data.items() if value not in {None, ""}}
    try:
        checked = model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise CliError(
            Exit.USAGE,
            f"expected another {'.'.join(str(part) for part in first['loc'])}, got {first['input']!r}",
            why=first["msg"],
        ) from error
    # As given, not as parsed: the signature covers these very bytes.
    return {name: given[name] for name in checked.model_fields_set}


def _command(name: str, account: str, data: dict[str, Any], command_id: str, *, as_json: bool) -> None:
    from pipeline.cli.answers import answer_of, exit_of, write_words
    from pipeline.cli.output import write_json
    from pipeline.client.commands import signed, unsigned_command
    from pipeline.client.events import encode
    from pipeline.client.origin import new_id, now_text
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publisher import Publisher
    from pipeline.settings import Settings

    settings = Settings()
    command = unsigned_command(
        name, account=account, command_id=command_id or new_id(), source=SOURCE, time=now_text(), data=data
    )
    key = _key(settings)
    # The publisher first: it finds the broker while the reader looks where the topics end.
    with (
        Publisher(settings) as publisher,
        OutcomeReader(settings, ("command_result", "dead_letter")) as reader,
    ):
        position = publisher.publish(*encode(signed(command, key)))
        outcome = reader.wait([position])[position]
    (write_json if as_json else write_words)(answer_of(outcome))
    if code := exit_of(outcome):
        raise typer.Exit(code)


def _key(settings: "Settings") -> "CommandKey":
    from pipeline.client.commands import command_key

    key = command_key(settings)
    if key is None:
        raise CliError(
            Exit.USAGE,
            f"there is no command key {settings.command_key_id!r} to sign with",
            why="account commands are signed; the local stack makes a key in its settings.json",
            next_step="`creditstream up`, or set CREDITSTREAM_COMMAND_KEY_ID and CREDITSTREAM_COMMAND_KEYS",
        )
    return key


def register() -> None:
    """Put the commands under `account`."""
    from pipeline.cli.exits import guarded
    from pipeline.cli.look import show

    commands: dict[str, Callable[..., None]] = {
        "open": open_account,
        "grant": grant,
        "void-grant": void_grant,
        "show": show,
    }
    for name, command in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(command))
