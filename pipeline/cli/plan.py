"""`creditstream plan …`: which plans there are, the plan of an account, and new plans for a running deployment."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from pipeline.cli import contents, publishing
from pipeline.cli.commanding import Account, CommandId, Json, checked, command
from pipeline.cli.exits import EXIT_CODES_HELP, guarded
from pipeline.cli.price_book import FILE_OR_VERSION, At, Bundled

if TYPE_CHECKING:
    from pipeline.domain.plans import PlanCatalog

FREE_PLAN: Final = "free"

app = typer.Typer(
    no_args_is_help=True, help="Show and publish plans; change or cancel the plan of an account."
)


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


def list_plans(*, bundled: Bundled = False, as_json: Json = False) -> None:
    """List the plans that are in force now in the running deployment."""
    from pipeline.cli.output import say, write_json, write_table
    from pipeline.client.origin import now
    from pipeline.domain.credits import format_credits

    kind = contents.plan_catalogs()
    origin = "release" if bundled else "deployment"
    refs = publishing.bundled_refs(kind) if bundled else max(publishing.schedules_of(kind).values(), key=len)
    in_force = [each for each in refs if each.effective_from <= now()][-1]
    content = contents.content_of(kind, in_force.version).content
    catalog = cast("PlanCatalog", contents.read(kind, content))
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
        write_json({"origin": origin, "version": catalog.version, "plans": plans})
        return
    say(f"Version {catalog.version} of {'this release' if bundled else 'the running deployment'}.")
    names = ("plan", "monthly_credits", "period_months", "paid")
    rows = [
        [*(each[name] for name in names[:-1]), "yes" if each["paid"] else "no", _price(each)]
        for each in plans
    ]
    write_table((*names, "overage credit"), rows)


def versions(*, bundled: Bundled = False, as_json: Json = False) -> None:
    """List the plan catalogues of the running deployment, and whether all partitions have them."""
    publishing.versions(contents.plan_catalogs(), bundled=bundled, as_json=as_json)


def show(version: Annotated[str, typer.Argument(metavar="VERSION|FILE", help=FILE_OR_VERSION)]) -> None:
    """Show a whole plan catalogue as JSON."""
    contents.show(contents.plan_catalogs(), version)


def publish(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON, as in schemas/plans/")],
    *,
    at: At = "",
    command_id: CommandId = "",
    as_json: Json = False,
) -> None:
    """Publish a plan catalogue: it counts from its effective_from on, at least two minutes from now.

    Every plan that there was must still be in it. A running period keeps what it was given.
    """
    publishing.publish(contents.plan_catalogs(), file, at, command_id, as_json=as_json)


def _price(plan: Mapping[str, object]) -> str:
    return "not offered" if plan["overage_price"] is None else f"{plan['overage_price']} {plan['currency']}"


def register() -> None:
    """Put the commands under `plan`."""
    commands: dict[str, Callable[..., None]] = {
        "change": change,
        "cancel": cancel,
        "list": list_plans,
        "versions": versions,
        "show": show,
        "publish": publish,
    }
    for name, each in commands.items():
        app.command(name, epilog=EXIT_CODES_HELP)(guarded(each))
