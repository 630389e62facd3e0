"""Applies `schemas/clickhouse/*.sql`: numbered, once, in order, remembered by checksum.

A file that was applied is never edited: the database would differ from what its name says. ClickHouse has
no transaction around DDL, so every statement can be repeated (IF NOT EXISTS) and a file counts at its end.
Files that only the database knows are a newer version's; tables only grow, so this version runs on them too.
"""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from pipeline.clickhouse import Client, open_client, open_server
from pipeline.settings import Settings

_FILE_NAME: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_STATEMENT_END: Final = re.compile(r";[ \t]*(?:\n|$)")

_APPLIED_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    name     String COMMENT 'File under schemas/clickhouse',
    checksum String COMMENT 'SHA-256 of its bytes when it was applied'
)
ENGINE = ReplacingMergeTree
ORDER BY name
COMMENT 'Which schema files this database has'
"""


class MigrationRefusedError(Exception):
    """The files and the database tell different stories; a person decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """A statement ends with a semicolon at the end of a line."""
        return [part.strip() for part in _STATEMENT_END.split(self.sql) if part.strip()]


def migrate(settings: Settings) -> list[str]:
    """Give the database what this version needs. Returns the names of the files applied now."""
    _create_database(settings)
    client = open_client(settings.clickhouse)
    try:
        return apply(client, shipped_migrations())
    finally:
        client.close()


def shipped_migrations() -> list[Migration]:
    """The files of this version, in order."""
    folder = files("schemas") / "clickhouse"
    found = [
        Migration(name=file.name, sql=file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    ordered = sorted(found, key=lambda migration: migration.name)
    for number, migration in enumerate(ordered, start=1):
        match = _FILE_NAME.match(migration.name)
        assert match is not None, f"expected a name such as 0001_some_table.sql, got {migration.name!r}"
        assert int(match[1]) == number, f"expected migration number {number}, got {migration.name!r}"
    return ordered


def apply(client: Client, migrations: list[Migration]) -> list[str]:
    """Apply what the database does not have yet."""
    client.command(_APPLIED_TABLE)
    rows = client.query("SELECT name, checksum FROM schema_migrations FINAL").result_rows
    applied = {str(name): str(checksum) for name, checksum in rows}
    _refuse_edited(applied, migrations)
    missing = [migration for migration in migrations if migration.name not in applied]
    for migration in missing:
        for statement in migration.statements:
            client.command(statement)
        client.insert("schema_migrations", [[migration.name, migration.checksum]], ["name", "checksum"])
    return [migration.name for migration in missing]


def _refuse_edited(applied: dict[str, str], migrations: list[Migration]) -> None:
    for migration in migrations:
        checksum = applied.get(migration.name)
        if checksum not in {None, migration.checksum}:
            raise MigrationRefusedError(
                f"schemas/clickhouse/{migration.name} was edited after it was applied: expected SHA-256 "
                f"{checksum}, found {migration.checksum}. Restore the file and put the change into a new one."
            )


def _create_database(settings: Settings) -> None:
    client = open_server(settings.clickhouse)
    try:
        # An identifier cannot be bound; the settings allow only [a-z_][a-z0-9_]* here.
        client.command(f"CREATE DATABASE IF NOT EXISTS `{settings.clickhouse.database}`")
    finally:
        client.close()
