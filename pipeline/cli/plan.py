"""`creditstream plan …`: which plans there are, and the plan of an account."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from pipeline.cli.commanding import Account, CommandId, Json, checked, command
from pipeline.cli.exits import EXIT_CODES_HELP, guarded

FREE_PLAN: Final = "free"

app = typer.Typer(no_args_is_help=True, help="Show the plans; change or cancel the plan of an account.")


def change(
    account: Account,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="One of `creditstream plan list`")],
    *,
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Change the plan: to a larger one at once, to any other when the period ends. The newest wish counts."""
    from schemas.account_command import ChangePlan

    command("change_plan", account, checked(ChangePlan, plan=plan), command_id, as_json=as_json)


def cancel(account: Account, *, command_id: CommandId = "", as_json: Json = False) -> None:
    """Go back to the free plan when the period ends. What was paid for stays usable until it expires."""
    change(account, FREE_PLAN, command_id=command_id, as_json=as_json)


def list_plans(*, as_json: Json = False) -> None:
    """List the plans that are in force now. Needs no Kafka."""
    from pipeline.bootstrap import plan_catalogs
    from pipeline.cli.output import write_json, write_table
    from pipeline.client.origin import now
    from pipeline.domain.credits import format_credits

    catalog = [each for each in plan_catalogs() if each.effective_from <= now()][-1]
    plans = [
        {
            "plan": each.plan_id,
            "monthly_credits": format_credits(each.monthly_credits),
            "period_months": each.period_months,
            "paid": each.paid,
            "overage_price": None if each.overage_price is None else format(each.overage_price, "f"),
            "currency": each.currency,
        }
        for each in catalog.plans.values()
    ]
    if as_json:
        write_json({"version": catalog.version, "plans": plans})
        return
    names = ("plan", "monthly_credits", "period_months", "paid")
    rows = [
        [*(each[name] for name in names[:-1]), "yes" if each["paid"] else "no", _price(each)]
        for each in plans
    ]
    write_table((*names, "overage credit"), rows)


def _price(plan: Mapping[str, object]) -> str:
    return "not offered" if plan["overage_price"] is None else f"{plan['overage_price']} {plan['currency']}"


def register() -> None:
    """Put the commands under `plan`."""
    commands: dict[str, Callable[..., None]] = {"change": change, "cancel": cancel, "list": list_plans}
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
