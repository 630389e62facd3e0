"""What `price-book` and `plan` have in common: files and versions read, compared, published, and listed.

A name is a file if there is one of that name, else a version: of this release, else of the running deployment.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from pipeline.cli.commanding import SOURCE, signing_key
from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.domain.plans import PlanCatalog
    from pipeline.domain.price_book import PriceBook
    from pipeline.state import Cursor, VersionRef


@dataclass(frozen=True, slots=True)
class Kind:
    """A price book or a plan catalogue, as the command line calls it."""

    name: str
    type: str
    key_of: "Callable[[str], bytes]"
    read: "Callable[[bytes], PriceBook | PlanCatalog]"
    refs_of: "Callable[[Cursor], tuple[VersionRef, ...]]"


class Content(NamedTuple):
    """Content, and where it was found: `file`, `release` or `deployment`."""

    content: dict[str, Any]
    origin: str


def price_books() -> Kind:
    from pipeline.published import price_book
    from pipeline.state import price_book_key
    from schemas.publication import PRICE_BOOK_TYPE

    return Kind("price book", PRICE_BOOK_TYPE, price_book_key, price_book, lambda cursor: cursor.price_books)


def plan_catalogs() -> Kind:
    from pipeline.published import plan_catalog
    from pipeline.state import plan_catalog_key
    from schemas.publication import PLAN_CATALOG_TYPE

    return Kind(
        "plan catalogue",
        PLAN_CATALOG_TYPE,
        plan_catalog_key,
        plan_catalog,
        lambda cursor: cursor.plan_catalogs,
    )


def content_of(kind: Kind, name: str) -> Content:
    """The content of a file or version. Exit code 3 when nobody has it."""
    import orjson

    from pipeline.bootstrap import bundled
    from pipeline.client.schedule import DeploymentReader
    from pipeline.settings import Settings

    if Path(name).is_file():
        return Content(_file(kind, Path(name)), "file")
    key = kind.key_of(name)
    own = bundled().get(key)
    if own is not None:
        return Content(orjson.loads(own), "release")
    reader = DeploymentReader(Settings())
    try:
        published = reader.content(key)
    finally:
        reader.close()
    if published is None:
        raise CliError(
            Exit.NOT_FOUND,
            f"there is no {kind.name} {name!r}",
            why="no file has this name, and neither this release nor the running deployment has this version",
            next_step="`creditstream price-book list`, `creditstream plan versions`",
        )
    return Content(orjson.loads(published), "deployment")


def _file(kind: Kind, path: Path) -> dict[str, Any]:
    import orjson

    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(Exit.FAILED, f"{path} is no {kind.name}", why=str(error)) from error
    if not isinstance(content, dict):
        raise CliError(Exit.FAILED, f"{path} is no {kind.name}", why="expected a JSON object")
    return content


def read(kind: Kind, content: Mapping[str, Any]) -> "PriceBook | PlanCatalog":
    """The content as the rules see it, by the worker's own validation. Exit code 4 when they would refuse it."""
    import orjson

    from pipeline.published import content_hash
    from pipeline.validate_data import Fault
    from pipeline.validate_publication import published_content

    data = {"content": dict(content), "sha256": content_hash(orjson.dumps(content))}
    try:
        return published_content(kind.type, data)[1]
    except Fault as fault:
        where = fault.pointer.removeprefix("/data/content") or "the whole"
        raise CliError(
            Exit.REFUSED, f"this is no valid {kind.name}", why=f"{where}: {fault.detail}"
        ) from fault


def validate(kind: Kind, file: str, *, as_json: bool) -> None:
    """Say whether a file could be published as far as it alone decides that."""
    from pipeline.cli.output import write, write_json
    from pipeline.domain.instants import format_instant

    version = read(kind, _file(kind, Path(file)))
    told = {
        "version": version.version,
        "sha256": version.sha256,
        "effective_from": format_instant(version.effective_from),
    }
    if as_json:
        write_json({"valid": True, **told})
    else:
        write(
            f"valid: {kind.name} {told['version']}, from {told['effective_from']}, SHA-256 {told['sha256']}"
        )


def show(kind: Kind, name: str) -> None:
    """The whole content as JSON."""
    from pipeline.cli.output import say, write_json

    found = content_of(kind, name)
    read(kind, found.content)
    say(f"From the {found.origin}.")
    write_json(found.content)


def diff(kind: Kind, first: str, second: str, *, as_json: bool) -> None:
    """What changes from one to the other."""
    from pipeline.cli.output import say, write_json, write_table

    before, after = (content_of(kind, name).content for name in (first, second))
    changes = list(_changes(before, after))
    if as_json:
        write_json([{"where": where, "before": old, "after": new} for where, old, new in changes])
    elif changes:
        write_table(
            ("where", first, second), [[where, _shown(old), _shown(new)] for where, old, new in changes]
        )
    else:
        say("No difference.")


_ABSENT: Final = "–"


def _shown(value: object) -> str:
    return _ABSENT if value is None else str(value)


def _changes(before: object, after: object, where: str = "") -> Iterator[tuple[str, object, object]]:
    """Leaves that differ, by their place; members of a list by their plan, else by their number."""
    old, new = _members(before), _members(after)
    if old is None or new is None:
        if before != after:
            yield where or "/", before, after
        return
    for name in dict.fromkeys((*old, *new)):
        yield from _changes(old.get(name), new.get(name), f"{where}/{name}")


def _members(value: object) -> dict[str, Any] | None:
    match value:
        case dict():
            return {str(name): each for name, each in value.items()}
        case list():
            return {
                str(each["plan"] if isinstance(each, dict) and "plan" in each else number): each
                for number, each in enumerate(value)
            }
        case _:
            return None


def publish(kind: Kind, file: str, at: str, command_id: str, *, as_json: bool) -> None:
    """Send a file's content to every partition, and wait until all have answered. Exit code 4 when one refuses."""
    from pipeline.cli.answers import answer_of, exit_of, worst, write_words
    from pipeline.cli.output import say, write_json
    from pipeline.client.commands import signed
    from pipeline.client.origin import new_id, now_text
    from pipeline.client.outcomes import OutcomeReader
    from pipeline.client.publication import publication
    from pipeline.client.publication import publish as send
    from pipeline.domain.instants import format_instant
    from pipeline.settings import Settings

    content = _file(kind, Path(file))
    if at:
        content["effective_from"] = at
    version = read(kind, content)
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
    outcomes = [found[each] for each in sent]
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


def _leave_time(effective_from: int, lead_seconds: int) -> None:
    from pipeline.client.origin import now
    from pipeline.client.publication import APPEND_SECONDS_MAX
    from pipeline.domain.instants import SECOND_MS, format_instant

    earliest = now() + (lead_seconds + APPEND_SECONDS_MAX) * SECOND_MS
    if effective_from < earliest:
        raise CliError(
            Exit.REFUSED,
            f"expected effective_from at or after {format_instant(earliest)}, got {format_instant(effective_from)}",
            why=f"{lead_seconds} s is the rule, {APPEND_SECONDS_MAX} s more until all partitions have it",
            next_step="a later effective_from in the file, or --at",
        )


def versions(kind: Kind, *, bundled: bool, as_json: bool) -> None:
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


def bundled_refs(kind: Kind) -> "tuple[VersionRef, ...]":
    """What a deployment begins with that this release starts."""
    from pipeline.bootstrap import load_core
    from pipeline.core import initial_cursor
    from pipeline.settings import Settings

    return kind.refs_of(initial_cursor(load_core(Settings()), ""))


def schedules_of(kind: Kind) -> "dict[int, tuple[VersionRef, ...]]":
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
