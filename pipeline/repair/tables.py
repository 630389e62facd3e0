"""Gives the database new, empty tables that only one filling may write to, and tells the sink where to begin.

A sink may live that knows nothing of it: it may be about to insert, or be stopped and go on much later. So every
filling has a name. New tables take blocks of their own filling only (a constraint reads what the insert says); they
come under their names with that constraint on; only then is the plan written that makes a sink use the new name.
Whoever dies in between leaves tables that refuse every block: run it again.
"""

from collections.abc import Callable
from typing import Final
from uuid import uuid4

from pipeline.admin.migrate import migrate
from pipeline.clickhouse import FILL_SETTING, Client, open_client, open_server
from pipeline.kafka import KafkaException
from pipeline.settings import Settings
from pipeline.sink.insert import TABLES
from pipeline.sink.plan import MAPPING_VERSION
from pipeline.sink.plan_log import PlanLog
from schemas.sink_plan import PlannedRange, SinkPlan

SCRATCH_SUFFIX: Final = "_rebuild"
"""After the database's name: where new tables are made."""
PLAN_ATTEMPTS_MAX: Final = 20
"""A sink that is started again just now takes the fence; its turn is over when the next plan is written."""
_DROP_ANY: Final = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}
"""What is dropped was asked for with --yes; a server would refuse more than 50 GB."""


def refill(
    settings: Settings,
    *,
    load: Callable[[Client, str], None],
    ranges: Callable[[int], list[PlannedRange]],
    progress: Callable[[str], None],
) -> None:
    """Make the tables anew, put into them what `load` has, and let the sink begin at `ranges` of each partition."""
    fill = uuid4().hex
    partitions = range(settings.kafka.partitions)
    progress("fencing the sinks")
    fences = [PlanLog(settings, partition) for partition in partitions]
    progress("making the tables anew")
    _make_tables(settings, fill)
    client = open_client(settings.clickhouse)
    try:
        load(client, fill)
    finally:
        client.close()
    progress("telling the sinks where to begin")
    del fences  # They held sinks up as far as that goes; a restarted sink has its own by now.
    for partition in partitions:
        _write_plan(settings, partition, fill, ranges(partition))


def _write_plan(settings: Settings, partition: int, fill: str, ranges: list[PlannedRange]) -> None:
    plan = SinkPlan(partition=partition, mapping=MAPPING_VERSION, inserted=True, ranges=ranges, fill=fill)
    for attempt in range(1, PLAN_ATTEMPTS_MAX + 1):
        try:
            PlanLog(settings, partition).write(plan)
        except KafkaException:
            if attempt == PLAN_ATTEMPTS_MAX:
                raise
        else:
            return


def _make_tables(settings: Settings, fill: str) -> None:
    database, scratch = settings.clickhouse.database, settings.clickhouse.database + SCRATCH_SUFFIX
    server = open_server(settings.clickhouse)
    try:
        server.command(f"DROP DATABASE IF EXISTS {scratch} SYNC", settings=_DROP_ANY)
        migrate(settings.model_copy(update={"clickhouse": _in(settings, scratch)}))
        views, tables = _names(server, scratch)
        for view in views:
            server.command(f"DROP VIEW {scratch}.{view} SYNC")
        for table in TABLES.values():
            server.command(
                f"ALTER TABLE {scratch}.{table} ADD CONSTRAINT filling CHECK getSetting('{FILL_SETTING}') = '{fill}'"
            )
        server.command(f"CREATE DATABASE IF NOT EXISTS {database}")
        # Views first: a rollup's view must not see its target go. What is not ours in the database stays.
        for name in (*views, *tables):
            server.command(f"DROP TABLE IF EXISTS {database}.{name} SYNC", settings=_DROP_ANY)
        moved = ", ".join(f"{scratch}.{table} TO {database}.{table}" for table in TABLES.values())
        server.command(f"RENAME TABLE {moved}")
        server.command(f"DROP DATABASE {scratch} SYNC")
    finally:
        server.close()
    migrate(settings)


def _in(settings: Settings, database: str) -> object:
    return settings.clickhouse.model_copy(update={"database": database})


def _names(server: Client, database: str) -> tuple[list[str], list[str]]:
    """Views, and tables, as the migrations make them."""
    rows = server.query(
        "SELECT name, engine LIKE '%View' FROM system.tables WHERE database = {database:String}",
        parameters={"database": database},
    ).result_rows
    return [str(name) for name, is_view in rows if is_view], [
        str(name) for name, is_view in rows if not is_view
    ]
