"""The options that say what was used, once for every command that takes them, and the check of what they say."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import typer

from pipeline.cli.exits import CliError, Exit

SOURCE: Final = "/services/creditstream-cli"

Pixels = Annotated[int | None, typer.Option(min=1, metavar="PIXELS")]
Source = Annotated[str, typer.Option(help="Who says so")]
Time = Annotated[str, typer.Option(metavar="INSTANT", help="When it happened; now if left out")]


def _usage_data(
    *,
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
) -> dict[str, Any]:
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
    return {name: value for name, value in data.items() if value is not None}


def with_usage_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options in place of its parameter `data`, which gets what they say."""
    own, options = inspect.signature(command), inspect.signature(_usage_data).parameters

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        data = _usage_data(**{name: arguments.pop(name) for name in options})
        command(**arguments, data=data)

    parameters: list[inspect.Parameter] = []
    for each in own.parameters.values():
        parameters += options.values() if each.name == "data" else [each]
    # Where Typer looks.
    run.__dict__["__signature__"] = own.replace(parameters=parameters)
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def checked_usage(
    service: str,
    account: str,
    data: dict[str, Any],
    *,
    event_id: str = "",
    source: str = SOURCE,
    time: str = "",
) -> dict[str, Any]:
    """The usage event, checked before it is sent: a slip of the fingers should not become a dead letter."""
    from pipeline.client.events import usage_event
    from pipeline.client.origin import new_id, now_text
    from pipeline.validate import Invalid, parse_event
    from pipeline.validate_usage import SERVICES

    service = service.replace("-", "_")
    services = [each.service for each in SERVICES.values()]
    if service not in services:
        raise CliError(Exit.USAGE, f"expected one of {', '.join(services)}, got {service!r}")
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
    return event
