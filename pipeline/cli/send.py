"""`creditstream send`: publishes usage through the producer path and shows what became of it."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from pipeline.cli.exits import CliError, Exit
from pipeline.cli.ndjson import STDIN
from pipeline.cli.usage_options import SOURCE, Source, Time, checked_usage, with_usage_options

if TYPE_CHECKING:
    from pipeline.settings import Settings

Record: TypeAlias = tuple[bytes | None, bytes]
"""Key and value."""


@with_usage_options
def send(
    what: Annotated[
        str,
        typer.Argument(metavar="SERVICE|FILE|-", help="A service, or NDJSON of CloudEvents; `-` is stdin"),
    ],
    *,
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Whose credits")] = "",
    data: dict[str, Any],
    event_id: Annotated[str, typer.Option("--id", help="Of the event; the same for every resend")] = "",
    source: Source = SOURCE,
    time: Time = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the outcome")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout")] = False,
) -> None:
    """Publish usage and wait for what it cost.

    SERVICE is image_generation, background_removal, image_analysis, upscaling, post_processing or
    transparent_background. Exit code 4 when the account may not use it, 1 when it is a dead letter.

    Examples: creditstream send image_generation --account acme --quality high --width 1024 --height 1024 --images 4

    creditstream send events.ndjson --json
    """
    from pipeline.client.events import encode
    from pipeline.settings import Settings

    settings = Settings()
    if what == STDIN or "." in what or "/" in what:
        _send_lines(settings, what, no_wait=no_wait, as_json=as_json)
        return
    if not account:
        raise CliError(Exit.USAGE, "an account is missing", next_step="add --account ACCOUNT")
    event = checked_usage(what, account, data, event_id=event_id, source=source, time=time)
    _publish(settings, [[encode(event)]], no_wait=no_wait, as_json=as_json)


def _send_lines(settings: "Settings", source: str, *, no_wait: bool, as_json: bool) -> None:
    from pipeline.cli.ndjson import opened, slices

    with opened(source) as lines:
        records = ([_record(line) for _, line in each] for each in slices(lines))
        _publish(settings, records, no_wait=no_wait, as_json=as_json)


def _record(line: bytes) -> Record:
    """The line as it is: what is wrong with it, the stream says, and everybody sees the same."""
    import orjson

    try:
        event = orjson.loads(line)
    except ValueError:
        return None, line
    subject = event.get("subject") if isinstance(event, dict) else None
    return subject.encode() if isinstance(subject, str) else None, line


def _publish(
    settings: "Settings", slices: Iterable[Sequence[Record]], *, no_wait: bool, as_json: bool
) -> None:
    """Publish slice by slice, each answered before the next is read. Ends with the worst outcome's code."""
    from pipeline.cli.answers import answer_of, exit_of, worst, write_words
    from pipeline.cli.output import write_json
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publisher import Publisher

    exits: set[Exit] = set()
    with ExitStack() as open_clients:
        # The publisher first: it finds the broker while the reader looks where the topics end.
        publisher = open_clients.enter_context(Publisher(settings))
        reader = None if no_wait else open_clients.enter_context(OutcomeReader(settings))
        for records in slices:
            positions = publisher.publish_all(records)
            if reader is None:
                _write_positions(records, positions, as_json=as_json)
                continue
            outcomes = reader.wait(positions, commands=_commands(records, positions))
            for position in positions:
                answer = answer_of(outcomes[position])
                (write_json if as_json else write_words)(answer)
                exits.add(exit_of(outcomes[position]))
    if code := worst(exits):
        raise typer.Exit(code)


def _write_positions(
    records: Sequence[Record], positions: Sequence[tuple[int, int]], *, as_json: bool
) -> None:
    from pipeline.cli.output import write, write_json

    for (_, value), (partition, offset) in zip(records, positions, strict=True):
        name = _attribute(value, "id")
        if as_json:
            write_json({"event_id": name, "outcome": "published", "partition": partition, "offset": offset})
        else:
            write(f"published    {name}  partition {partition}, offset {offset}")


def _commands(records: Sequence[Record], positions: Sequence[tuple[int, int]]) -> Collection[tuple[int, int]]:
    """Positions of account commands."""
    from pipeline.validate_command import COMMANDS

    return {
        position
        for (_, value), position in zip(records, positions, strict=True)
        if _attribute(value, "type") in COMMANDS
    }


def _attribute(value: bytes, name: str) -> str | None:
    import orjson

    try:
        event = orjson.loads(value)
    except ValueError:
        return None
    found = event.get(name) if isinstance(event, dict) else None
    return found if isinstance(found, str) else None
