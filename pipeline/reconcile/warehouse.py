"""What ClickHouse holds, read without FINAL: a row that stands there twice must show."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson

from pipeline.clickhouse import ClickHouseError, Client
from pipeline.reconcile.stored import Row, Shape

ERROR_CHARS_MAX: Final = 1000
SORT_BYTES_MAX: Final = 268_435_456
"""Beyond which ClickHouse sorts on disk: a partition's rows are more than its memory."""
SORT_BLOCK_ROWS: Final = 4096
"""Of what was sorted on disk one block for each `SORT_BYTES_MAX` is in memory."""
READ_SETTINGS: Final[dict[str, Any]] = {
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "date_time_output_format": "iso",
    "max_execution_time": 3600,
    "max_bytes_before_external_sort": SORT_BYTES_MAX,
    "max_bytes_ratio_before_external_sort": 0,
    "max_block_size": SORT_BLOCK_ROWS,
}
"""So that amounts and instants come in the form that the records have."""
BEYOND_ROWS_MAX: Final = 20
"""Of one table, that are named at a time."""

_LINKS: Final = (
    "SELECT account_id, max(entry_seq), argMax(entry_hash, entry_seq), argMax(balance_after, entry_seq) "
    "FROM ledger_entries "
)
_ROLLUP: Final = """
SELECT day, account_id, service, channel, outcome,
       concat(toString(sum(rows_there)), ' records, ', toString(sum(credits_there)), ' credits') AS expected,
       concat(toString(sum(rows_rolled)), ' records, ', toString(sum(credits_rolled)), ' credits') AS found
FROM (
    SELECT toDate(accepted_at) AS day, account_id, service, channel, outcome,
           toInt64(1) AS rows_there, images AS images_there, credits AS credits_there,
           rated_credits AS rated_there, toInt64(0) AS rows_rolled, toInt64(0) AS images_rolled,
           toDecimal128(0, 6) AS credits_rolled, toDecimal128(0, 6) AS rated_rolled
    FROM metered_records
    UNION ALL
    SELECT day, account_id, service, channel, outcome,
           0, 0, toDecimal64(0, 6), toDecimal64(0, 6),
           toInt64(records), toInt64(images), credits, rated_credits
    FROM usage_daily
)
GROUP BY day, account_id, service, channel, outcome
HAVING sum(rows_there) != sum(rows_rolled) OR sum(images_there) != sum(images_rolled)
    OR sum(credits_there) != sum(credits_rolled) OR sum(rated_there) != sum(rated_rolled)
ORDER BY day, account_id, service, channel, outcome
"""


class Warehouse:
    """One connection; closes with it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def rows(self, shape: Shape, partition: int, *, since: int, before: int) -> Iterator[Row]:
        """The rows whose cause stands in the input offsets [since, before), in the order of the log."""
        columns = ", ".join(shape.fields)
        return self._select(
            f"SELECT {columns} FROM {shape.table} "  # noqa: S608  (names of ours)
            "WHERE partition = {partition:UInt32} AND offset >= {since:UInt64} AND offset < {before:UInt64} "
            "ORDER BY offset",
            partition=partition,
            since=since,
            before=before,
        )

    def rows_beyond(self, shapes: Sequence[Shape], ends: Mapping[int, int]) -> list[Row]:
        """Rows whose cause the log does not have, or not yet: their table, partition, input offset and account."""
        within = " OR ".join(f"(partition = {number} AND offset < {end})" for number, end in ends.items())
        parts = [
            f"SELECT '{shape.table}', partition, offset, account_id FROM {shape.table} "  # noqa: S608  (names and numbers of ours)
            f"WHERE NOT ({within}) LIMIT {BEYOND_ROWS_MAX}"
            for shape in shapes
        ]
        return list(self._select(" UNION ALL ".join(parts)))

    def links(self, partition: int, accounts: Sequence[str], before: int) -> Iterator[Row]:
        """Of these accounts the newest ledger entry before an input offset: account, its number, hash and balance."""
        return self._select(
            _LINKS + "WHERE account_id IN {accounts:Array(String)} AND partition = {partition:UInt32} "
            "AND offset < {before:UInt64} GROUP BY account_id",
            accounts=accounts,
            partition=partition,
            before=before,
        )

    def links_of_entered(self, partition: int, since: int, before: int) -> Iterator[Row]:
        """As `links`, before `since`, of all accounts with an entry caused in the input offsets [since, before)."""
        return self._select(
            _LINKS + "WHERE partition = {partition:UInt32} AND offset < {since:UInt64} AND account_id IN ("  # noqa: S608  (text of ours)
            "SELECT account_id FROM ledger_entries WHERE partition = {partition:UInt32} "
            "AND offset >= {since:UInt64} AND offset < {before:UInt64}) GROUP BY account_id",
            partition=partition,
            since=since,
            before=before,
        )

    def newest_offset(self, shape: Shape, partition: int) -> int:
        """How far the table of a shape has come; -1 when it is empty."""
        sql = f"SELECT maxOrNull(offset) FROM {shape.table} WHERE partition = {{partition:UInt32}}"  # noqa: S608
        ((offset,),) = self._select(sql, partition=partition)
        return -1 if offset is None else int(offset)

    def balances(self, partition: int, accounts: Sequence[str] | None = None) -> Iterator[Row]:
        """Account, posted and held credits, overage, entry number, offset: the newest of every account, or of these."""
        return self._select(
            "SELECT account_id, argMax(posted, partition_seq), argMax(held, partition_seq), "
            "argMax(overage, partition_seq), argMax(entry_seq, partition_seq), argMax(offset, partition_seq) "
            "FROM account_balances WHERE partition = {partition:UInt32} "
            + ("" if accounts is None else "AND account_id IN {accounts:Array(String)} ")
            + "GROUP BY account_id",
            partition=partition,
            accounts=accounts or [],
        )

    def rollup_differences(self) -> list[Row]:
        """Lines of the daily rollup that are not the sum of the rows: their key, expected, found."""
        return list(self._select(_ROLLUP))

    def _select(self, sql: str, **parameters: object) -> Iterator[Row]:
        with self._client.raw_stream(
            sql, parameters=parameters, settings=READ_SETTINGS, fmt="JSONCompactEachRow"
        ) as stream:
            lines = iter(stream)
            for line in lines:
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    # What goes wrong after the first row stands where a row would.
                    raise ClickHouseError(f"ClickHouse broke off its answer: {_rest(lines)}") from None
                yield row


def _rest(lines: Iterator[bytes]) -> str:
    """What is still to come of an answer, whose end is no proper one then."""
    rest: list[bytes] = []
    with suppress(Exception):  # Of whatever library: what it said before counts.
        rest.extend(lines)
    return " ".join(b" ".join(rest).decode("utf-8", "replace").split())[:ERROR_CHARS_MAX]
