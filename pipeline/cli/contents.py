"""Price books and plan catalogues as the command line names them: read, checked, shown and compared.

A name is a file if there is one of that name, else a version: of this release, else of the running deployment.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pipeline.cli.exits import CliError, Exit

if TYPE_CHECKING:
    from pipeline.client.schedule import Kind
    from pipeline.domain.plans import PlanCatalog
    from pipeline.domain.price_book import PriceBook


class Content(NamedTuple):
    """Content, and where it was found: `file`, `release` or `deployment`."""

    content: dict[str, Any]
    origin: str


def price_books() -> "Kind":
    from pipeline.client.schedule import PRICE_BOOKS

    return PRICE_BOOKS


def plan_catalogs() -> "Kind":
    from pipeline.client.schedule import PLAN_CATALOGS

    return PLAN_CATALOGS


def content_of(kind: "Kind", name: str) -> Content:
    """The content of a file or version. Exit code 3 when nobody has it."""
    import orjson

    from pipeline.bootstrap import bundled
    from pipeline.client.schedule import DeploymentReader
    from pipeline.settings import Settings

    if Path(name).is_file():
        return Content(file_content(kind, Path(name)), "file")
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


def file_content(kind: "Kind", path: Path) -> dict[str, Any]:
    import orjson

    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CliError(Exit.FAILED, f"{path} is no {kind.name}", why=str(error)) from error
    if not isinstance(content, dict):
        raise CliError(Exit.FAILED, f"{path} is no {kind.name}", why="expected a JSON object")
    return content


def read(kind: "Kind", content: Mapping[str, Any]) -> "PriceBook | PlanCatalog":
    """The content as the rules see it, by the worker's own validation. Exit code 4 when they would refuse it."""
    from pipeline.client.publication import checked
    from pipeline.validate_data import Fault

    try:
        return checked(kind.type, content)
    except Fault as fault:
        where = fault.pointer.removeprefix("/data/content") or "the whole"
        raise CliError(
            Exit.REFUSED, f"this is no valid {kind.name}", why=f"{where}: {fault.detail}"
        ) from fault


def validate(kind: "Kind", file: str, *, as_json: bool) -> None:
    """Say whether a file could be published as far as it alone decides that."""
    from pipeline.cli.output import write, write_json
    from pipeline.domain.instants import format_instant

    version = read(kind, file_content(kind, Path(file)))
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


def show(kind: "Kind", name: str) -> None:
    """The whole content as JSON."""
    from pipeline.cli.output import say, write_json

    found = content_of(kind, name)
    read(kind, found.content)
    say(f"From the {found.origin}.")
    write_json(found.content)


def diff(kind: "Kind", first: str, second: str, *, as_json: bool) -> None:
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
