"""`creditstream tail` and `creditstream reconcile`: the stream as it runs, and the proof that nothing is missing."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.exits import Exit

if TYPE_CHECKING:
    from pipeline.reconcile.report import Report

SINK_WAIT_SECONDS: Final = 60
"""As `pipeline.reconcile.run` has it, which only loads when it is needed."""
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout")]


def tail(
    *,
    account: Annotated[str, typer.Option(metavar="ACCOUNT", help="Only this account")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON record a line on stdout")] = False,
) -> None:
    """Show usage as it is answered, from now on, until Ctrl-C (exit code 130)."""
    from pipeline.cli.answers import answer_of, write_words
    from pipeline.cli.output import say, write, write_json
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.settings import Settings

    with OutcomeReader(Settings(), ("metered_record", "dead_letter")) as reader:
        say("Waiting for usage; Ctrl-C ends.")
        for outcome in reader.stream():
            if outcome is None or account not in {"", outcome.record["account_id"]}:
                continue
            if as_json:
                write_json(outcome.record)
            else:
                write(outcome.record["account_id"].ljust(16) + " ", end="")
                write_words(answer_of(outcome))


def reconcile(
    *,
    wait: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="How long the sink may need to catch up")
    ] = SINK_WAIT_SECONDS,
    as_json: Json = False,
) -> None:
    """Compare the Kafka log, the ledger, the table and ClickHouse, by ids and amounts. Exit code 6 if any differs."""
    from pipeline.cli.output import say, write_json
    from pipeline.reconcile.run import reconcile as compare
    from pipeline.settings import Settings

    report = compare(Settings(), sink_wait_seconds=wait, progress=say)
    if as_json:
        write_json(report_as_json(report))
    else:
        write_report(report)
    if not report.equal:
        raise typer.Exit(Exit.FINDINGS)


def report_as_json(report: "Report") -> dict[str, Any]:
    """The report with its verdict, amounts as decimal strings."""
    from pipeline.domain.credits import format_credits

    whole = asdict(report)
    whole["counts"] = {str(kind): number for kind, number in report.counts.items()}
    whole["charged"] = format_credits(whole.pop("charged_micros"))
    for partition in whole["partitions"]:
        partition["charged"] = format_credits(partition.pop("charged_micros"))
    return {"equal": report.equal, **whole}


def write_report(report: "Report") -> None:
    """The report in words, each difference on a line of its own."""
    from pipeline.cli.output import write
    from pipeline.domain.credits import format_credits

    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.outcomes.items()))
    write(f"{report.records} records of the log: {outcomes}")
    write(f"{report.accounts} accounts, {format_credits(report.charged_micros)} credits charged")
    if report.equal:
        write("Kafka log = ledger = table = ClickHouse: no difference.")
        return
    write(f"{report.differences_total} differences:")
    for each in report.differences:
        place = f"partition {each.partition}, offset {each.offset}" if each.offset >= 0 else ""
        names = " ".join(name for name in (each.account_id, each.event_id, place) if name)
        write(f"  {each.kind} in {each.where}: {names}: expected {each.expected}, found {each.found}")
    if report.differences_total > len(report.differences):
        write(f"  … and {report.differences_total - len(report.differences)} more")
