"""`creditstream simulate`: the core over a log of lines, without Kafka. What outsiders check the rules with."""

from typing import Annotated

import typer

from pipeline.cli.exits import CliError, Exit


def simulate(
    source: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="NDJSON of events, commands and ticks; `-` is stdin")
    ] = "-",
    *,
    balances: Annotated[
        bool, typer.Option("--balances", help="Add one line per account at the end, with its grants")
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Add to each answer its ledger entries, alerts, statements and orders"
        ),
    ] = False,
    verify_signatures: Annotated[
        bool, typer.Option("--verify-signatures", help="Commands must be signed with our keys, as in the log")
    ] = False,
) -> None:
    """Run usage events, account commands and ticks through the rules. Needs no Kafka.

    One JSON object a line in, one a line out, in order: `id`, `outcome` (metered, denied, duplicate, conflict,
    dead_letter, accepted, refused, tick), `reason`, `credits`, `balance_after`. A capture's `credits` are what it
    charged; a hold's stand in `hold`, and what it leaves in `available_after`.

    `accepted_at` (RFC 3339 or epoch milliseconds) says when the broker took the line, as Kafka's append time would.
    Left out, it is the line's before; in a log that never says it, the event's own `time`. A tick is
    `{"type": "org.apimage.tick.v1", "accepted_at": …}`. Blank lines are passed over.

    A command needs `type`, `subject` and `data`; what else belongs to it is filled in. Every type that a log may have
    is understood, payments' answers and published prices too. A correction names its usage by `event_offset`: the
    first line is 0, blank ones count. With `--details` each answer also has `entries`, `alerts`, `statements` and
    `topup_orders`: what the line brought, for everybody for whom it let time pass.

    Example: creditstream simulate --balances < log.ndjson
    """
    from pipeline.bootstrap import load_core
    from pipeline.cli.ndjson import opened, slices, write_lines
    from pipeline.settings import Settings
    from pipeline.simulation import BadLineError, Simulation

    simulation = Simulation(load_core(Settings()), verify_signatures=verify_signatures, details=details)
    try:
        with opened(source) as lines:
            for each in slices(lines):
                write_lines(simulation.fold(each))
    except BadLineError as error:
        raise CliError(Exit.FAILED, "the log cannot be read", why=str(error)) from error
    if balances:
        write_lines(simulation.balances())
