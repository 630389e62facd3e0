"""`creditstream account …`: commands on an account, and what an account holds."""

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from pipeline.cli.commanding import Account, CommandId, Json, Reason, checked, command
from pipeline.cli.exits import EXIT_CODES_HELP, CliError, Exit

app = typer.Typer(
    no_args_is_help=True, help="Open and close accounts, give and take back credits, show what is there."
)
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

    command("open", account, checked(OpenAccount, plan=plan), command_id, as_json=as_json)


def grant(
    account: Account,
    credits: Annotated[str, typer.Argument(metavar="CREDITS", help="A plain decimal")],  # noqa: A002
    *,
    kind: Annotated[Literal["prepaid", "promotional", "goodwill", "monthly"], typer.Option()] = "prepaid",
    grant_id: Annotated[str, typer.Option("--grant-id", help="Made up if left out")] = "",
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="Lower burns first")] = None,
    expires: Instant = None,
    never_expires: Annotated[
        bool, typer.Option("--never-expires", help="A prepaid grant else ends after 12 months")
    ] = False,
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
    data = checked(
        IssueGrant,
        grant_id=grant_id or f"grant-{name}",
        kind=kind,
        credits=credits,
        priority=priority,
        effective_at=effective,
        expires_at=expires,
        source=note,
    )
    if never_expires:
        data["expires_at"] = None  # Said, not left out.
    command("grant", account, data, name, as_json=as_json)


def void_grant(
    account: Account,
    grant_id: Annotated[str, typer.Argument(metavar="GRANT_ID")],
    *,
    reason: Reason = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Take back what is left of a grant. What was used stays used."""
    from schemas.account_command import VoidGrant

    command(
        "void_grant",
        account,
        checked(VoidGrant, grant_id=grant_id, reason=reason),
        command_id,
        as_json=as_json,
    )


def close(
    account: Account, *, reason: Reason = "", command_id: CommandId = "", as_json: Json = False
) -> None:
    """Close an account for good: what is left is voided, holds are released, the period gets its statement."""
    from schemas.account_command import CloseAccount

    command("close", account, checked(CloseAccount, reason=reason), command_id, as_json=as_json)


def configure(
    account: Account,
    *,
    overage_ceiling: Annotated[
        str,
        typer.Option(metavar="CREDITS", help="Turn overage protection off, up to this much in one period"),
    ] = "",
    protection_on: Annotated[
        bool, typer.Option("--protection-on", help="Nothing is used beyond the grants any more")
    ] = False,
    thresholds: Annotated[
        str | None, typer.Option(metavar="PERCENT,…", help="Of alerts, rising: 80,100,110; or none")
    ] = None,
    topup: Annotated[
        str,
        typer.Option(
            metavar="THRESHOLD:PACK:CAP",
            help="Below THRESHOLD credits buy PACK, at most CAP credits a period",
        ),
    ] = "",
    topup_off: Annotated[bool, typer.Option("--topup-off", help="Buy nothing by itself any more")] = False,
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Change the billing settings of an account. What is not named stays as it is.

    Example: creditstream account configure acme --overage-ceiling 200 --thresholds 80,100,110
    Example: creditstream account configure acme --topup 50:credits-100:300
    """
    from schemas.account_command import Configure

    named = (overage_ceiling, protection_on, thresholds is not None, topup, topup_off)
    if (overage_ceiling and protection_on) or (topup and topup_off) or not any(named):
        raise CliError(
            Exit.USAGE,
            "expected --overage-ceiling or --protection-on, --topup or --topup-off, --thresholds; at least one of them",
            next_step="see --help",
        )
    chosen = None if thresholds is None else _percents(thresholds)
    data = checked(
        Configure, overage_ceiling=overage_ceiling, alert_thresholds=chosen, auto_topup=_auto_topup(topup)
    )
    if protection_on:
        data["overage_ceiling"] = None
    if topup_off:
        data["auto_topup"] = None
    command("configure", account, data, command_id, as_json=as_json)


def _auto_topup(text: str) -> dict[str, str] | None:
    if not text:
        return None
    parts = text.split(":")
    if len(parts) != 3:
        raise CliError(
            Exit.USAGE, "expected THRESHOLD:PACK:CAP, such as 50:credits-100:300", why=f"got {text!r}"
        )
    threshold, pack, cap = parts
    return {"threshold": threshold, "pack": pack, "credits_max_per_period": cap}


def topup_result(
    account: Account,
    order: Annotated[int, typer.Argument(min=1, metavar="ORDER", help="Its number: `creditstream topups`")],
    result: Annotated[Literal["succeeded", "declined"], typer.Argument(metavar="succeeded|declined")],
    *,
    reference: Annotated[str, typer.Option(help="The provider's name for the payment")] = "",
    reason: Reason = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Answer a top-up order by hand, where the payment provider cannot."""
    from schemas.account_command import AnswerTopup

    data = checked(AnswerTopup, order=order, result=result, reference=reference, reason=reason)
    command("topup_result", account, data, command_id, as_json=as_json)


def _percents(text: str) -> list[int]:
    try:
        return [] if text == "none" else [int(each) for each in text.split(",")]
    except ValueError as error:
        raise CliError(
            Exit.USAGE, "expected percents such as 80,100,110, or none", why=f"got {text!r}"
        ) from error


def register() -> None:
    """Put the commands under `account`."""
    from pipeline.cli.exits import guarded
    from pipeline.cli.look import show

    commands: dict[str, Callable[..., None]] = {
        "open": open_account,
        "grant": grant,
        "void-grant": void_grant,
        "configure": configure,
        "topup-result": topup_result,
        "close": close,
        "show": show,
    }
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
