"""`creditstream export` and `verify`: an account's usage as a file that proves itself, and the check of such a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.domain.price_book import PriceBook
    from pipeline.query.pages import Filters

Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]


def export(
    account: Account,
    *,
    form: Annotated[Literal["json", "ndjson", "csv"], typer.Option("--format")] = "json",
    since: Annotated[
        str, typer.Option("--from", metavar="INSTANT", help="Accepted from here on: instant or date")
    ] = "",
    until: Annotated[
        str, typer.Option("--to", metavar="INSTANT", help="Accepted before this: instant or date")
    ] = "",
    zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="IANA time zone of dates and instants")
    ] = "UTC",
) -> None:
    """Write an account's usage to stdout: every record with its receipt, the ledger beside it, and hashes over both.

    Example: creditstream export acme --from 2026-11-01 --tz Europe/Berlin > acme.json && creditstream verify acme.json
    """
    from pipeline.cli.look import analyst, balance_of
    from pipeline.client.origin import now_text
    from pipeline.gateway.exports import export_source, written

    client = analyst()
    balance_of(client, account)  # A typing error is no empty file.
    filters = _filters(since, until, zone)
    source = export_source(
        client, account, filters, zone, generated_at=now_text(), book_hash=_deployed_book_hash
    )
    for piece in written(source, form):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON of an export")],
    *,
    price_book: Annotated[
        list[Path] | None,
        typer.Option("--price-book", metavar="FILE", help="Of a book that this release does not have"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute an exported file, offline: prices, grants, balances, totals, hashes. Exit code 6 names what differs.

    Example: creditstream verify usage.json
    """
    from pipeline.cli.output import write, write_json
    from pipeline.usage_proof import NotAnExportError, read_export
    from pipeline.usage_proof import verify as differences

    try:
        document = read_export(file.read_bytes())
    except (OSError, NotAnExportError) as error:
        raise CliError(
            Exit.FAILED,
            f"{file} is no usage export that can be verified",
            why=str(error),
            next_step="creditstream export ACCOUNT > usage.json",
        ) from error
    found = list(differences(document, _books(price_book or [])))
    told = {"records": len(document["records"]), "entries": len(document["entries"])}
    if as_json:
        write_json(
            {"file": str(file), "equal": not found, **told, "differences": [each._asdict() for each in found]}
        )
    else:
        for each in found:
            write(str(each))
        verdict = f"{len(found)} differences" if found else "all right"
        write(f"{file}: {told['records']} records, {told['entries']} ledger entries: {verdict}")
    if found:
        raise typer.Exit(Exit.FINDINGS)


def _filters(since: str, until: str, zone: str) -> "Filters":
    from pipeline.gateway.problems import ProblemError
    from pipeline.gateway.times import utc_of, zone_of
    from pipeline.query.accounts import BEGINNING, END
    from pipeline.query.pages import Filters

    try:
        place = zone_of(zone)
        return Filters(
            since=utc_of(since, place, "--from") if since else BEGINNING,
            until=utc_of(until, place, "--to") if until else END,
        )
    except ProblemError as error:
        raise CliError(Exit.USAGE, str(error.detail)) from error


def _deployed_book_hash(version: str) -> str:
    import orjson

    from pipeline.cli.contents import content_of, price_books
    from pipeline.published import content_hash

    return content_hash(orjson.dumps(content_of(price_books(), version).content))


def _books(files: list[Path]) -> "dict[str, PriceBook]":
    from pipeline.bootstrap import price_books as bundled
    from pipeline.cli import contents
    from pipeline.domain.price_book import PriceBook

    books = {book.version: book for book in bundled()}
    kind = contents.price_books()
    for file in files:
        book = contents.read(kind, contents.file_content(kind, file))
        assert isinstance(book, PriceBook), "the kind says how content is read"
        books[book.version] = book
    return books
