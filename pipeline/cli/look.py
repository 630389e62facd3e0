"""What ClickHouse knows, for people: balances, usage, why a charge is what it is, and any question in SQL."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.clickhouse import Client

NEWEST_ENTRIES: Final = 10
Account = Annotated[str, typer.Argument(metavar="ACCOUNT")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout")]


def balance(account: Account, *, as_json: Json = False) -> None:
    """Show what an account has left, and in which grants."""
    from pipeline.cli.output import write_json
    from pipeline.cli.tables import write_balance

    found = balance_of(analyst(), account)
    (write_json if as_json else write_balance)(found)


def show(account: Account, *, as_json: Json = False) -> None:
    """Show an account: its balance, its grants, and its newest ledger entries."""
    from pipeline.cli.output import write_json, write_table
    from pipeline.cli.tables import write_balance
    from pipeline.query.accounts import newest_entries

    client = analyst()
    found = balance_of(client, account)
    entries = newest_entries(client, account, NEWEST_ENTRIES)
    if as_json:
        write_json({**found, "entries": entries})
        return
    write_balance(found)
    names = ("entry_seq", "kind", "credits", "balance_after", "booked_at", "cause_id")
    write_table(names, [[entry[name] for name in names] for entry in entries], title="Newest ledger entries")


def usage(
    account: Account,
    *,
    since: Annotated[str, typer.Option("--from", metavar="INSTANT", help="Accepted from here on")] = "",
    until: Annotated[str, typer.Option("--to", metavar="INSTANT", help="Accepted before this")] = "",
    by: Annotated[Literal["day", "service"], typer.Option()] = "service",
    as_json: Json = False,
) -> None:
    """Show what an account used, by service or by UTC day."""
    from pipeline.cli.output import say, write_json
    from pipeline.cli.tables import write_usage
    from pipeline.query import accounts

    rows = accounts.usage(
        analyst(),
        [account],
        by=by,
        since=_instant(since, "--from") or accounts.BEGINNING,
        until=_instant(until, "--to") or accounts.END,
    )
    if as_json:
        write_json({"account_id": account, "by": by, "usage": rows})
    elif rows:
        write_usage(rows, by)
    else:
        say(f"No usage of {account} in this time.")


def explain(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID")],
    *,
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Only this account's")] = "",
    as_json: Json = False,
) -> None:
    """Say why an event cost what it cost, or why it was not charged. Exit code 3 when nobody knows it."""
    from pipeline.cli.output import write, write_json
    from pipeline.cli.receipts import explanation_lines
    from pipeline.query import explanation

    found = explanation.explain(analyst(), event_id, account=account)
    if found.is_empty():
        raise CliError(
            Exit.NOT_FOUND,
            f"nothing is known of the event {event_id!r}",
            why="ClickHouse has no record, dead letter or ledger entry with this id (it is about a second behind)",
            next_step="`creditstream status` shows whether worker and sink run",
        )
    if as_json:
        write_json(
            {
                "metered_records": found.metered,
                "dead_letters": found.dead_letters,
                "ledger_entries": found.entries,
            }
        )
        return
    for line in explanation_lines(found):
        write(line)


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    *,
    format: Annotated[Literal["table", "json", "csv"], typer.Option()] = "table",  # noqa: A002
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json")] = False,
) -> None:
    """Ask ClickHouse as the read-only analyst. JSON is one object a line.

    Example: creditstream sql "SELECT service, sum(credits) FROM metered_records_v1 GROUP BY service"
    """
    from pipeline.cli.output import write_table
    from pipeline.clickhouse import DatabaseError

    client = analyst()
    try:
        if as_json or format == "json":
            _copy(client.raw_stream(query, fmt="JSONEachRow"))
        elif format == "csv":
            _copy(client.raw_stream(query, fmt="CSVWithNames"))
        else:
            result = client.query(query)
            write_table(list(result.column_names), list(result.result_rows))
    except DatabaseError as error:
        raise CliError(Exit.FAILED, "ClickHouse refused the query", why=_server_words(error)) from error


def _server_words(error: Exception) -> str:
    """The server's own sentence, without the list of every word that would have been right there."""
    text = " ".join(str(error).split())
    return text.rpartition("DB::Exception: ")[2].partition(" Expected one of:")[0].partition(" (version ")[0]


def _copy(chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def analyst() -> "Client":
    """A connection that can read and nothing else."""
    from pipeline.clickhouse import open_analyst
    from pipeline.settings import Settings

    return open_analyst(Settings().clickhouse)


def balance_of(client: "Client", account: str) -> dict[str, Any]:
    """The newest balance. Exit code 3 where there is no such account."""
    from pipeline.query import accounts

    found = accounts.balance(client, account)
    if found is None:
        raise CliError(
            Exit.NOT_FOUND,
            f"there is no account {account!r}",
            why="nobody opened it, or the sink has not stored it yet (it is about a second behind)",
            next_step=f"creditstream account open {account}",
        )
    return found


def _instant(text: str, option: str) -> str:
    from pipeline.domain.instants import format_instant, parse_instant

    try:
        return format_instant(parse_instant(text)) if text else ""
    except ValueError as error:
        raise CliError(Exit.USAGE, f"{option} is no instant", why=str(error)) from error
