"""ClickHouse anew from Kafka, as far as Kafka still holds the records; what it does not hold is said first."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import orjson

from pipeline.clickhouse import ClickHouseError, Client, open_server
from pipeline.reconcile.topics import Log
from pipeline.repair.tables import refill
from pipeline.settings import Settings
from pipeline.sink.insert import TABLES
from schemas.topics import ACCOUNT_BALANCES, ALERT_DELIVERIES

_NOTHING_LEFT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Rows that Kafka cannot bring back."""

    table: str
    partition: int
    before: int
    """The input offset of the oldest record that Kafka still holds of this table."""
    rows: int | None
    """That stand in ClickHouse now; None where it does not say."""

    def __str__(self) -> str:
        rows = "rows (ClickHouse does not say how many)" if self.rows is None else f"{self.rows} rows"
        return f"{self.table}, partition {self.partition}: {rows} of input offsets before {self.before}"


class LossError(Exception):
    """Rows would be lost for good, and nobody has said that they may be."""

    def __init__(self, losses: list[Loss]) -> None:
        super().__init__("; ".join(map(str, losses)))
        self.losses = losses


def rebuild(
    settings: Settings, *, accept_loss: bool, progress: Callable[[str], None] = lambda _: None
) -> list[Loss]:
    """Empty tables, which the sink fills from the oldest record on. Returns what is lost.

    Raises LossError, with nothing done, when something would be and that is not accepted.
    """
    found = losses(settings)
    if found and not accept_loss:
        raise LossError(found)
    refill(settings, load=lambda _client, _fill: None, ranges=lambda _partition: [], progress=progress)
    return found


def losses(settings: Settings) -> list[Loss]:
    """What stands in ClickHouse, or stood there, and not in Kafka any more. Balances are compacted and all there; of
    deliveries, which are no charge, what Kafka has is enough."""
    with closing(Log(settings.kafka)) as log:
        cut = {
            (topic, partition): _first_cause(log, topic, partition)
            for topic in TABLES
            if topic not in {ACCOUNT_BALANCES, ALERT_DELIVERIES}
            for partition in range(settings.kafka.partitions)
            if log.start_of(topic, partition) > 0
        }
    if not cut:
        return []
    database = settings.clickhouse.database
    with closing(open_server(settings.clickhouse)) as server:
        found = [
            Loss(
                table=TABLES[topic],
                partition=partition,
                before=cause,
                rows=_rows(server, f"{database}.{TABLES[topic]}", partition, cause),
            )
            for (topic, partition), cause in cut.items()
        ]
    return [loss for loss in found if loss.rows != 0]


def _first_cause(log: Log, topic: str, partition: int) -> int:
    message = log.first(topic, partition)
    return _NOTHING_LEFT if message is None else int(orjson.loads(message.value() or b"")["offset"])


def _rows(client: Client, table: str, partition: int, before: int) -> int | None:
    sql = (
        f"SELECT count() FROM {table} FINAL "  # noqa: S608  (a name of ours)
        "WHERE partition = {partition:UInt32} AND offset < {before:UInt64}"
    )
    try:
        ((count,),) = client.query(sql, parameters={"partition": partition, "before": before}).result_rows
    except ClickHouseError:
        return None  # No such table, or no such database: lost already.
    return int(count)
