"""`creditstream send`: publishes usage through the producer path and shows what became of it."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import typer

from pipeline.cli.exits import CliError, Exit
from pipeline.cli.ndjson import STDIN

Pixels = Annotated[int | None, typer.Option(min=1, metavar="PIXELS")]
if TYPE_CHECKING:
    from pipeline.settings import Settings

Record: TypeAlias = tuple[bytes | None, bytes]
"""Key and value."""
SOURCE: Final = "/services/creditstream-cli"


def send(
    what: Annotated[
        str,
        typer.Argument(metavar="SERVICE|FILE|-", help="A service, or NDJSON of CloudEvents; `-` is stdin"),
    ],
    *,
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Whose credits")] = "",
    images: Annotated[int | None, typer.Option(min=1)] = None,
    quality: Annotated[Literal["low", "medium", "high"] | None, typer.Option()] = None,
    width: Pixels = None,
    height: Pixels = None,
    output_width: Pixels = None,
    output_height: Pixels = None,
    input_width: Pixels = None,
    input_height: Pixels = None,
    scale: Annotated[float | None, typer.Option(help="Factor from input to output size")] = None,
    format: Annotated[str | None, typer.Option(help="Of the image, such as png")] = None,  # noqa: A002
    languages: Annotated[str | None, typer.Option(help="Separated by commas, such as en,de")] = None,
    transparent_background: Annotated[bool, typer.Option("--transparent-background")] = False,
    channel: Annotated[Literal["web", "api"] | None, typer.Option()] = None,
    event_id: Annotated[str, typer.Option("--id", help="Of the event; the same for every resend")] = "",
    source: Annotated[str, typer.Option(help="Who says so")] = SOURCE,
    time: Annotated[str, typer.Option(metavar="INSTANT", help="When it happened; now if left out")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the outcome")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout")] = False,
) -> None:
    """Publish usage and wait for what it cost.

    SERVICE is image_generation, background_removal, image_analysis, upscaling, post_processing or
    transparent_background. Exit code 4 when the account may not use it, 1 when it is a dead letter.

    Examples: creditstream send image_generation --account acme --quality high --width 1024 --height 1024 --images 4

    creditstream send events.ndjson --json
    """
    from pipeline.settings import Settings

    settings = Settings()
    if what == STDIN or "." in what or "/" in what:
        _send_lines(settings, what, no_wait=no_wait, as_json=as_json)
        return
    data = {
        "images": images,
        "channel": channel,
        "quality": quality,
        "width": width,
        "height": height,
        "output_width": output_width,
        "output_height": output_height,
        "input_width": input_width,
        "input_height": input_height,
        "scale": int(scale) if scale is not None and scale.is_integer() else scale,
        "format": format,
        "languages": None if languages is None else languages.split(","),
        "transparent_background": transparent_background or None,
    }
    given = {name: value for name, value in data.items() if value is not None}
    event = _event(what.replace("-", "_"), account, given, event_id=event_id, source=source, time=time)
    _publish(settings, [[event]], no_wait=no_wait, as_json=as_json)


def _event(
    service: str, account: str, data: dict[str, Any], *, event_id: str, source: str, time: str
) -> Record:
    """The event, checked before it is sent: a slip of the fingers should not become a dead letter."""
    from pipeline.client.events import encode, usage_event
    from pipeline.client.origin import new_id, now_text
    from pipeline.validate import Invalid, parse_event
    from pipeline.validate_usage import SERVICES

    services = [each.service for each in SERVICES.values()]
    if service not in services:
        raise CliError(Exit.USAGE, f"expected one of {', '.join(services)}, a file or `-`, got {service!r}")
    if not account:
        raise CliError(Exit.USAGE, "an account is missing", next_step="add --account ACCOUNT")
    event = usage_event(
        service,
        account=account,
        event_id=event_id or new_id(),
        source=source,
        time=time or now_text(),
        data=data,
    )
    parsed = parse_event(event, account.encode(), {})
    if isinstance(parsed, Invalid):
        option = parsed.pointer.removeprefix("/data/").replace("/", "").replace("_", "-")
        raise CliError(
            Exit.USAGE, f"this is no usage of {service}: {option}", why=parsed.detail, next_step="see --help"
        )
    return encode(event)


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
            outcomes = reader.wait(positions)
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
        name = _id_of(value)
        if as_json:
            write_json({"event_id": name, "outcome": "published", "partition": partition, "offset": offset})
        else:
            write(f"published    {name}  partition {partition}, offset {offset}")


def _id_of(value: bytes) -> str | None:
    import orjson

    try:
        event = orjson.loads(value)
    except ValueError:
        return None
    name = event.get("id") if isinstance(event, dict) else None
    return name if isinstance(name, str) else None
