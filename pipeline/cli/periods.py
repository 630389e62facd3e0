"""What ClickHouse knows of an account's periods: how each was closed, and what was alerted in it."""

from typing import Annotated, Final

import typer

from pipeline.cli.look import Account, Json, analyst, balance_of

SHOWN_MAX: Final = 1000
Last = Annotated[int, typer.Option(min=1, max=SHOWN_MAX, help="How many, the newest first")]


def statement(account: Account, *, last: Last = 12, as_json: Json = False) -> None:
    """Show closed periods, and what overage costs.

    opening + granted + overage + reversed - used - expired - voided - overage returned = closing
    """
    from pipeline.cli.output import say, write_json
    from pipeline.cli.tables import write_statements
    from pipeline.query.accounts import newest_statements

    client = analyst()
    found = newest_statements(client, account, last)
    running = None if found else balance_of(client, account)
    if as_json:
        write_json({"account_id": account, "statements": found})
    elif running is not None:
        say(f"No period of {account} has ended. The first ends at {running['period_end']}.")
    else:
        write_statements(found)


def topups(account: Account, *, last: Last = 12, as_json: Json = False) -> None:
    """Show the top-up orders of an account. Those that were paid are grants `topup:<order>`."""
    from pipeline.cli.output import say, write_json, write_table
    from pipeline.query.accounts import newest_topups

    found = newest_topups(analyst(), account, last)
    if as_json:
        write_json({"account_id": account, "topups": found})
    elif found:
        names = (
            "order_number",
            "pack",
            "credits",
            "price",
            "currency",
            "threshold",
            "credits_left",
            "accepted_at",
        )
        write_table(names, [[each[name] for name in names] for each in found])
    else:
        say(f"No top-up order of {account} yet.")


def alerts(account: Account, *, last: Last = 12, as_json: Json = False) -> None:
    """Show the alerts of an account: thresholds that its use reached, and the first denial of each period."""
    from pipeline.cli.output import say, write_json
    from pipeline.cli.tables import write_alerts
    from pipeline.query.accounts import newest_alerts

    client = analyst()
    found = newest_alerts(client, account, last)
    settings = None if found else balance_of(client, account)
    if as_json:
        write_json({"account_id": account, "alerts": found})
    elif settings is not None:
        thresholds = ", ".join(f"{each} %" for each in settings["alert_thresholds"]) or "none"
        say(f"No alert of {account} yet. Its thresholds: {thresholds}.")
    else:
        write_alerts(found)
