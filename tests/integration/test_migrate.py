"""Migrations: once, in order, refused when edited; and the tables are what the wire models say."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from pipeline.admin.migrate import MigrationRefusedError, apply, migrate, shipped_migrations
from pipeline.clickhouse import Client, open_client
from pipeline.settings import Settings
from schemas.account_alert import AccountAlert
from schemas.account_balance import AccountBalance
from schemas.account_statement import AccountStatement
from schemas.base import WireModel
from schemas.dead_letter import DeadLetter
from schemas.ledger_entry import LedgerEntry
from schemas.metered_record import MeteredRecord
from schemas.topup_order import TopupOrder
from tests import stack

pytestmark = pytest.mark.integration

MODELS: dict[str, type[WireModel]] = {
    "metered_records": MeteredRecord,
    "ledger_entries": LedgerEntry,
    "account_alerts": AccountAlert,
    "account_balances": AccountBalance,
    "account_statements": AccountStatement,
    "topup_orders": TopupOrder,
    "dead_letters": DeadLetter,
}


@pytest.fixture
def database(settings: Settings) -> Iterator[Client]:
    with closing(open_client(settings.clickhouse)) as client:
        yield client


def columns(client: Client, table: str) -> list[str]:
    rows = client.query(
        "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String} "
        "ORDER BY position",
        parameters={"table": table},
    ).result_rows
    return [str(name) for (name,) in rows]


def test_everything_is_applied_once_in_order_and_then_nothing(settings: Settings, database: Client) -> None:
    names = [migration.name for migration in shipped_migrations()]
    assert migrate(settings) == names
    assert migrate(settings) == []
    applied = database.query("SELECT name FROM schema_migrations ORDER BY name").result_rows
    assert [name for (name,) in applied] == names


def test_a_database_that_does_not_exist_is_created(settings: Settings) -> None:
    fresh = f"{settings.clickhouse.database}_fresh"
    named = settings.model_copy(
        update={"clickhouse": settings.clickhouse.model_copy(update={"database": fresh})}
    )
    try:
        assert migrate(named)
    finally:
        stack.execute(settings.clickhouse, f"DROP DATABASE IF EXISTS {fresh}")


def test_an_edited_file_is_refused_with_its_name_and_the_remedy(settings: Settings, database: Client) -> None:
    migrate(settings)
    first, *others = shipped_migrations()
    edited = replace(first, sql=first.sql + "-- a comment\n")
    with pytest.raises(MigrationRefusedError, match=r"0001_metered_records\.sql was edited .* Restore"):
        apply(database, [edited, *others])


def test_a_new_file_is_applied_beside_the_old_ones(database: Client) -> None:
    shipped = shipped_migrations()
    apply(database, shipped[:-1])
    assert apply(database, shipped) == [shipped[-1].name]


def test_a_file_that_was_interrupted_is_applied_again(database: Client) -> None:
    first = shipped_migrations()[0]
    database.command(first.statements[0])
    assert apply(database, [first]) == [first.name]


def test_the_columns_are_the_names_of_the_wire_models(settings: Settings, database: Client) -> None:
    migrate(settings)
    for table, model in MODELS.items():
        expected = list(model.model_fields)
        assert columns(database, table) == expected
        assert columns(database, f"{table}_v1") == expected


def test_every_view_and_every_column_of_a_table_says_what_it_is(settings: Settings, database: Client) -> None:
    migrate(settings)
    silent = database.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = '' "
        "AND engine != 'MaterializedView' "
        "UNION ALL SELECT concat(table, '.', name) FROM system.columns WHERE database = currentDatabase() "
        "AND comment = '' AND table IN "
        "(SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree')"
    ).result_rows
    assert silent == []
