"""Signs a command, sends it and shows its answer: what `account`, `plan` and `hold` have in common."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pipeline.client.commands import CommandKey
    from pipeline.settings import Settings

SOURCE: Final = "/operators/creditstream-cli"

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]
CommandId = Annotated[str, typer.Option("--id", help="Of the command; the same for every resend")]
Reason = Annotated[str, typer.Option(help="For the record")]


def checked(model: "type[BaseModel]", **data: Any) -> dict[str, Any]:
    """The command's data as the wire has it. A slip of the fingers ends here, with exit code 2."""
    from pydantic import ValidationError

    given = {name: value for name, value in data.items() if value is not None and value != ""}
    try:
        parsed = model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise CliError(
            Exit.USAGE,
            f"expected another {'.'.join(str(part) for part in first['loc']) or 'choice'}, got {first['input']!r}",
            why=first["msg"],
        ) from error
    # As given, not as parsed: the signature covers these very bytes.
    return {name: given[name] for name in parsed.model_fields_set}


def command(name: str, account: str, data: dict[str, Any], command_id: str, *, as_json: bool) -> None:
    """Send a command such as `open` and wait for its answer. Exit code 4 when it is refused."""
    from pipeline.cli.answers import answer_of, exit_of, write_words
    from pipeline.cli.output import write_json
    from pipeline.client.commands import signed, unsigned_command
    from pipeline.client.events import encode
    from pipeline.client.origin import new_id, now_text
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publisher import Publisher
    from pipeline.settings import Settings

    settings = Settings()
    event = unsigned_command(
        name, account=account, command_id=command_id or new_id(), source=SOURCE, time=now_text(), data=data
    )
    key = signing_key(settings)
    # The publisher first: it finds the broker while the reader looks where the topics end.
    with (
        Publisher(settings) as publisher,
        OutcomeReader(settings, ("command_result", "dead_letter")) as reader,
    ):
        position = publisher.publish(*encode(signed(event, key)))
        outcome = reader.wait([position])[position]
    (write_json if as_json else write_words)(answer_of(outcome))
    if code := exit_of(outcome):
        raise typer.Exit(code)


def signing_key(settings: "Settings") -> "CommandKey":
    """The key that this deployment signs commands with. Exit code 2 where there is none."""
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
