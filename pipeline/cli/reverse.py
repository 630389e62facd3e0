"""`creditstream reverse` and `rerate`: charges taken back, and past usage charged by another price book."""

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commanding import CommandId, Json, Reason, checked, command
from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.domain.rating import RatedUsage

EventId = Annotated[str, typer.Argument(metavar="EVENT_ID", help="Of the usage")]
AccountOption = Annotated[str, typer.Option("--account", metavar="ACCOUNT", help="Where ids are not unique")]
Offset = Annotated[
    int | None, typer.Option("--offset", min=0, help="In the log: which charge, where an event has several")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would do")]


def reverse(
    event_id: EventId,
    *,
    credits: Annotated[str, typer.Option(metavar="CREDITS", help="A part; else all that is left")] = "",  # noqa: A002
    account: AccountOption = "",
    offset: Offset = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Take a charge back, whole or in part. Exit code 4 when nothing is left of it, or it is too old.

    The credits return to the grants that paid, the last used first; with grants that have ended they expire, and the
    answer says how many. Closed statements stay as they are: the running period's says what was taken back.

    Example: creditstream reverse EVENT_ID --credits 2 --reason "one image was black"
    """
    from schemas.account_command import ReverseUsage

    charge = _charge(event_id, account, offset)
    left = Decimal(charge["rated_credits"]) - charge["taken_back"]
    if dry_run:
        _say(
            {
                "account_id": charge["account_id"],
                "event_id": event_id,
                "charged": charge["rated_credits"],
                "left": str(left),
                "would_take_back": credits or str(left),
                "paid_by": charge["receipt"]["grants"],
            },
            as_json=as_json,
        )
        return
    data = checked(ReverseUsage, record=_place(charge), credits=credits, reason=reason)
    command("reverse", charge["account_id"], data, command_id, as_json=as_json)


def rerate(
    event_id: EventId,
    *,
    price_book: Annotated[
        str, typer.Option("--price-book", metavar="VERSION", help="One that has taken force")
    ],
    account: AccountOption = "",
    offset: Offset = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Charge past usage by another price book: the old charge is taken back and the new one made, or neither.

    Example: creditstream rerate EVENT_ID --price-book 2026-02 --dry-run
    """
    from schemas.account_command import RerateUsage

    charge = _charge(event_id, account, offset)
    if dry_run:
        from pipeline.domain.credits import format_credits

        rated = _rated(charge, price_book)
        costs = format_credits(rated.credits)
        _say(
            {
                "account_id": charge["account_id"],
                "event_id": event_id,
                "price_book": charge["price_book"],
                "charged": charge["rated_credits"],
                "other_price_book": price_book,
                "would_charge": costs,
                "difference": str(Decimal(costs) - Decimal(charge["rated_credits"])),
            },
            as_json=as_json,
        )
        return
    data = checked(RerateUsage, record=_place(charge), price_book=price_book, reason=reason)
    command("rerate", charge["account_id"], data, command_id, as_json=as_json)


def _charge(event_id: str, account: str, offset: int | None) -> dict[str, Any]:
    """The one charge of this id. Exit code 3 when there is none, 2 when there are several."""
    from pipeline.cli.look import analyst
    from pipeline.corrections import charges_of

    charges = charges_of(analyst(), event_id, account=account)
    found = [each for each in charges if offset is None or each["offset"] == offset]
    if len(found) == 1:
        return found[0]
    if found:
        raise CliError(
            Exit.USAGE,
            f"{event_id!r} names {len(found)} charges",
            why="; ".join(
                f"{each['account_id']}, offset {each['offset']}, {each['outcome']}" for each in found
            ),
            next_step="say which by --account or --offset",
        )
    raise CliError(
        Exit.NOT_FOUND,
        f"no charge of {event_id!r} is known",
        why="denied usage, duplicates and dead letters charge nothing; what was just charged may not be stored yet",
        next_step=f"creditstream explain {event_id}",
    )


def _place(charge: dict[str, Any]) -> dict[str, int]:
    from pipeline.corrections import record_place
    from pipeline.settings import Settings

    place = record_place(Settings(), charge)
    if place is None:
        raise CliError(
            Exit.REFUSED,
            f"the record of {charge['event_id']!r} is no longer in Kafka",
            why="charges can be corrected as long as metered records are kept",
            next_step="give credits instead: `creditstream account grant ACCOUNT CREDITS --kind goodwill`",
        )
    return place


def _rated(charge: dict[str, Any], version: str) -> "RatedUsage":
    """What the usage costs by the other book. Exit code 4 where that has no price for it."""
    from pipeline.cli import contents
    from pipeline.domain.price_book import PriceBook
    from pipeline.domain.rating import Unrated, rate
    from pipeline.evidence import usage_of

    kind = contents.price_books()
    book = contents.read(kind, contents.content_of(kind, version).content)
    assert isinstance(book, PriceBook), "the kind says how content is read"
    rated = rate(usage_of(charge), book)
    if isinstance(rated, Unrated):
        raise CliError(Exit.REFUSED, f"price book {version} has no price for this", why=rated.detail)
    return rated


def _say(told: dict[str, Any], *, as_json: bool) -> None:
    from pipeline.cli.output import write, write_json

    if as_json:
        write_json(told)
        return
    for name, value in told.items():
        write(f"{name.replace('_', ' '):16} {value}")
