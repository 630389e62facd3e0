"""`creditstream price`: what usage costs, by the same rules as the stream, without Kafka, accounts or policy."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.pricing import Pricing


def price(
    source: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="NDJSON of usage events; `-` is stdin")
    ] = "-",
    *,
    at: Annotated[
        str,
        typer.Option(metavar="INSTANT", help="Which price book: the one in force at this RFC 3339 instant"),
    ] = "",
    book: Annotated[
        str, typer.Option(metavar="VERSION|FILE", help="Price all by this price book, whatever is in force")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Add the steps of each price")] = False,
) -> None:
    """Price usage events: one JSON object a line in, one a line out, in order. Needs no Kafka.

    Each line is a CloudEvent, or as little of one as `{"service": "upscaling", "data": {…}}`. Answers carry `id` and
    `credits`, or `credits: null` with `reason` and `detail`. The price book is the one in force at --at, else at the
    event's `accepted_at`, else at its `time`, else the newest, of those that this release brings; --book names another.
    Blank lines are passed over.

    Example: echo '{"id":"1","service":"image_generation","data":{"quality":"high","width":1024,"height":1024,
    "images":4}}' | creditstream price
    """
    from pipeline.cli.ndjson import opened, slices, write_lines

    pricing = _pricing(at, book, explain=explain)
    with opened(source) as lines:
        for each in slices(lines):
            write_lines(pricing.answer(number, line) for number, line in each)


def _pricing(at: str, book: str, *, explain: bool) -> "Pricing":
    from pipeline.cli import contents
    from pipeline.domain.instants import parse_instant
    from pipeline.domain.price_book import PriceBook
    from pipeline.pricing import Pricing
    from pipeline.settings import Settings

    options: dict[str, Any] = {"explain": explain}
    if at and book:
        raise CliError(Exit.USAGE, "expected --at or --book, not both")
    if book:
        kind = contents.price_books()
        options["book"] = contents.read(kind, contents.content_of(kind, book).content)
        assert isinstance(options["book"], PriceBook), "the kind says how content is read"
    if at:
        try:
            options["at"] = parse_instant(at)
        except ValueError as error:
            raise CliError(Exit.USAGE, "--at is no instant", why=str(error)) from error
    return Pricing(Settings().rules, **options)
