"""New price books and plans for a running deployment, and which it has: read from its cursors."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pipeline.cli.commanding import SOURCE, signing_key
from pipeline.cli.contents import file_content, read
from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.client.outcomes import Outcome
    from pipeline.client.schedule import Kind
    from pipeline.domain.plans import PlanCatalog
    from pipeline.domain.price_book import PriceBook
    from pipeline.state import VersionRef


def publish(kind: "Kind", file: str, at: str, command_id: str, *, as_json: bool) -> None:
    """Send a file's content to every partition, and wait until all have answered. Exit code 4 when it is refused."""
    from pipeline.cli.answers import answer_of, exit_of, worst, write_words
    from pipeline.cli.output import say, write_json
    from pipeline.domain.instants import format_instant

    content = file_content(kind, Path(file))
    if at:
        content["effective_from"] = at
    version = read(kind, content)
    outcomes = _send(kind, content, version, command_id)
    answers = [answer_of(each) for each in outcomes]
    if as_json:
        write_json({"version": version.version, "sha256": version.sha256, "partitions": answers})
    else:
        for answer in answers:
            write_words(answer)
    ends = [exit_of(each) for each in outcomes]
    if len(set(ends)) > 1:
        raise CliError(
            Exit.FAILED,
            "the partitions disagree: some price by this version from its instant on, some do not",
            why="its command was appended too close to the last moment that the rule allows",
            next_step="publish the same content under a new version, with more time, at once",
        )
    if worst(ends):
        raise typer.Exit(worst(ends))
    say(f"All partitions switch at {format_instant(version.effective_from)}.")


def _send(
    kind: "Kind", content: dict[str, Any], version: "PriceBook | PlanCatalog", command_id: str
) -> "list[Outcome]":
    """The outcome in each partition."""
    from pipeline.cli.output import say
    from pipeline.client.commands import signed
    from pipeline.client.origin import new_id, now_text
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publication import publication
    from pipeline.client.publication import publish as send
    from pipeline.settings import Settings

    settings = Settings()
    _leave_time(version.effective_from, settings.rules.publish_lead_seconds)
    event = publication(
        kind.type,
        content,
        sha256=version.sha256,
        command_id=command_id or new_id(),
        source=SOURCE,
        at=now_text(),
    )
    with OutcomeReader(settings, ("command_result", "dead_letter")) as reader:
        sent = send(settings, signed(event, signing_key(settings)))
        say(f"{kind.name} {version.version} stands in {len(sent)} partitions; waiting for all to answer.")
        found = reader.wait(sent)
    return [found[each] for each in sent]


def _leave_time(effective_from: int, lead_seconds: int) -> None:
    from pipeline.client.origin import now
    from pipeline.client.publication import APPEND_SECONDS_MAX, earliest
    from pipeline.domain.instants import format_instant

    first = earliest(now(), lead_seconds)
    if effective_from < first:
        raise CliError(
            Exit.REFUSED,
            f"expected effective_from at or after {format_instant(first)}, got {format_instant(effective_from)}",
            why=f"{lead_seconds} s is the rule, {APPEND_SECONDS_MAX} s more until all partitions have it",
            next_step="a later effective_from in the file, or --at",
        )


def versions(kind: "Kind", *, bundled: bool, as_json: bool) -> None:
    """The versions of a kind: of the running deployment, or with `bundled` of this release."""
    from pipeline.cli.output import say, write_json, write_table
    from pipeline.domain.instants import format_instant

    schedules = {-1: bundled_refs(kind)} if bundled else schedules_of(kind)
    partitions = [number for number in schedules if number >= 0]
    rows: list[dict[str, Any]] = []
    for ref in dict.fromkeys(each for refs in schedules.values() for each in _without_offsets(refs)):
        known = [number for number in partitions if ref in _without_offsets(schedules[number])]
        version, sha256, effective_from = ref
        rows.append(
            {
                "version": version,
                "effective_from": format_instant(effective_from),
                "sha256": sha256,
                "partitions": known,
            }
        )
    if as_json:
        write_json({"origin": "release" if bundled else "deployment", "versions": rows})
        return
    say("Of this release." if bundled else f"Of the running deployment, {len(partitions)} partitions.")
    columns = ("version", "effective_from", "sha256")
    where = [("" if bundled else _everywhere(each["partitions"], partitions)) for each in rows]
    table = [[*(row[name] for name in columns), place] for row, place in zip(rows, where, strict=True)]
    write_table((*columns, "" if bundled else "partitions"), table)


def _without_offsets(refs: "tuple[VersionRef, ...]") -> list[tuple[str, str, int]]:
    return [(each.version, each.sha256, each.effective_from) for each in refs]


def _everywhere(known: list[int], partitions: list[int]) -> str:
    return "all" if known == partitions else f"only {', '.join(map(str, known))}"


def bundled_refs(kind: "Kind") -> "tuple[VersionRef, ...]":
    """What a deployment begins with that this release starts."""
    from pipeline.bootstrap import load_core
    from pipeline.core import initial_cursor
    from pipeline.settings import Settings

    return kind.refs_of(initial_cursor(load_core(Settings()), ""))


def schedules_of(kind: "Kind") -> "dict[int, tuple[VersionRef, ...]]":
    """The schedule of each partition that a worker has begun. Exit code 3 where none has."""
    from pipeline.client.schedule import DeploymentReader
    from pipeline.settings import Settings

    reader = DeploymentReader(Settings())
    try:
        cursors = reader.cursors()
    finally:
        reader.close()
    found = {number: kind.refs_of(cursor) for number, cursor in cursors.items() if cursor is not None}
    if not found:
        raise CliError(
            Exit.NOT_FOUND,
            "no worker has begun a partition yet",
            next_step="start one; or ask with --bundled what a new deployment begins with",
        )
    return found
