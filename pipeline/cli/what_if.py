"""`creditstream what-if`: what would have become of everything under other prices or plans. Changes nothing."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli import contents, publishing
from pipeline.cli.commanding import Json
from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from decimal import Decimal

    from pipeline.client.schedule import Kind
    from pipeline.what_if import Comparison, Result, Tally
    from pipeline.what_if_schedule import Change

ROWS_DEFAULT: Final = 20


def what_if(
    *,
    price_book: Annotated[
        str, typer.Option(metavar="FILE|VERSION", help="Other prices, in the place of those in force now")
    ] = "",
    plans: Annotated[
        str, typer.Option(metavar="FILE|VERSION", help="Other plans, in the place of those in force now")
    ] = "",
    replaces: Annotated[str, typer.Option(metavar="VERSION", help="Take the place of this version")] = "",
    since: Annotated[
        str,
        typer.Option(metavar="INSTANT", help="Replace nothing: count from here until the next version does"),
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="Accounts shown, those that differ most")] = ROWS_DEFAULT,
    as_json: Json = False,
) -> None:
    """Run the recorded log through the rules twice, as it was and with other prices or plans, and show the difference.

    Credits used and requests denied for want of credits, in all and of each account for which something differs, and
    when it would first have hit its limit. As recorded, it must end exactly where the live table stands; if it does
    not, the exit code is 6. Needs the whole log from its first record on. Writes nothing.
    """
    from pipeline.cli.output import write_json

    result = _compared(_changes({"price_book": price_book, "plans": plans}, replaces, since))
    if as_json:
        write_json(_as_json(result))
    else:
        _write(result, limit)
    if result.unlike_the_table:
        raise typer.Exit(Exit.FINDINGS)


def _compared(changes: "list[Change]") -> "Result":
    """Both runs. Raises CliError where there is nothing to compare."""
    from pipeline.cli.output import say
    from pipeline.settings import Settings
    from pipeline.what_if import LogCutError
    from pipeline.what_if import what_if as compare
    from pipeline.what_if_schedule import NotComparableError

    try:
        return compare(Settings(), changes, progress=say)
    except LogCutError as error:
        raise CliError(
            Exit.REFUSED,
            "the log does not reach back to its beginning",
            why=str(error),
            next_step="nothing brings back what retention has deleted; keep the log longer from now on "
            "(retention.ms of metering.account-events.v1)",
        ) from error
    except NotComparableError as error:
        raise CliError(Exit.REFUSED, "this version cannot take that place", why=str(error)) from error


def _changes(names: dict[str, str], replaces: str, since: str) -> "list[Change]":
    from pipeline.domain.instants import parse_instant
    from pipeline.what_if_schedule import Change

    given = {name: source for name, source in names.items() if source}
    if not given or (replaces and (since or len(given) > 1)):
        raise CliError(
            Exit.USAGE,
            "expected --price-book or --plans or both; --replaces with one of them, and not beside --since",
        )
    try:
        begins = parse_instant(since) if since else None
    except ValueError as error:
        raise CliError(Exit.USAGE, "--since is no instant", why=str(error)) from error
    changes: list[Change] = []
    for name, source in given.items():
        kind = contents.plan_catalogs() if name == "plans" else contents.price_books()
        content = contents.content_of(kind, source).content
        contents.read(kind, content)
        place = "" if begins is not None else replaces or _in_force(kind)
        changes.append(Change(content=content, is_plans=name == "plans", replaces=place, since=begins))
    return changes


def _in_force(kind: "Kind") -> str:
    from pipeline.client.origin import now

    refs = max(publishing.schedules_of(kind).values(), key=len)
    return [each for each in refs if each.effective_from <= now()][-1].version


def _as_json(result: "Result") -> dict[str, Any]:
    from pipeline.domain.credits import format_credits
    from pipeline.what_if import money_difference

    difference = result.after.used - result.before.used
    return {
        "records": result.records,
        "accounts": result.accounts,
        "as_recorded_equals_live_table": not result.unlike_the_table,
        "unlike_the_table": result.unlike_the_table,
        "before": _tally(result.before),
        "after": _tally(result.after),
        "difference": format_credits(difference),
        "money_difference": _money(money_difference(result.before, result.after)),
        "changed": [
            {
                "account_id": each.account_id,
                "before": _tally(each.before),
                "after": _tally(each.after),
                "difference": format_credits(each.difference),
                "money_difference": _money(each.money_difference),
            }
            for each in result.changed
        ],
    }


def _tally(tally: "Tally") -> dict[str, Any]:
    from pipeline.domain.credits import format_credits

    return {
        "used": format_credits(tally.used),
        "denied": tally.denied,
        "limit_at": tally.limit_at,
        "overage": format_credits(tally.overage),
        "money": _money(tally.money),
    }


def _money(amounts: "dict[str, Decimal]") -> dict[str, str]:
    """By currency, exact, without trailing zeros."""
    return {currency: format(amount.normalize(), "f") for currency, amount in sorted(amounts.items())}


def _money_words(amounts: "dict[str, Decimal]") -> str:
    return " + ".join(f"{amount} {currency}" for currency, amount in _money(amounts).items()) or "0"


def _write(result: "Result", limit: int) -> None:
    from pipeline.cli.output import say, write, write_table
    from pipeline.domain.credits import format_credits

    write(f"{result.records} records of the log, {result.accounts} accounts")
    difference = format_credits(result.after.used - result.before.used)
    used = [format_credits(each.used) for each in (result.before, result.after)]
    write(f"credits used  {used[0]} → {used[1]}, difference {difference}")
    write(f"denied        {result.before.denied} → {result.after.denied}")
    if result.before.overage or result.after.overage:
        _write_overage(result.before, result.after)
    new = [each for each in result.changed if each.after.limit_at and not each.before.limit_at]
    write(f"{len(result.changed)} accounts differ, {len(new)} of them would hit their limit and did not")
    if result.changed[:limit]:
        columns = (
            "account",
            "used",
            "would use",
            "difference",
            "denied",
            "would be",
            "limit hit",
            "would be hit",
            "overage costs more",
        )
        write_table(columns, [_row(each) for each in result.changed[:limit]])
    if len(result.changed) > limit:
        say(f"{len(result.changed) - limit} more; --limit, or all with --json.")
    if result.unlike_the_table:
        write(
            f"The run as recorded does NOT end as the live table stands: partitions {result.unlike_the_table}."
        )
        write(
            "Other settings of the rules than the workers' give other balances; see `creditstream reconcile`."
        )
    else:
        write("The run as recorded ends as the live table stands, to its digest.")


def _write_overage(before: "Tally", after: "Tally") -> None:
    from pipeline.cli.output import write
    from pipeline.domain.credits import format_credits
    from pipeline.what_if import money_difference

    amounts = [format_credits(each.overage) for each in (before, after)]
    money = [_money_words(each.money) for each in (before, after)]
    more = _money_words(money_difference(before, after))
    write(f"overage       {amounts[0]} → {amounts[1]} credits, {money[0]} → {money[1]}, difference {more}")


def _row(each: "Comparison") -> list[object]:
    from pipeline.domain.credits import format_credits

    before, after = each.before, each.after
    used = [format_credits(amount) for amount in (before.used, after.used, each.difference)]
    return [
        each.account_id,
        *used,
        before.denied,
        after.denied,
        before.limit_at or "–",
        after.limit_at or "–",
        _money_words(each.money_difference),
    ]
