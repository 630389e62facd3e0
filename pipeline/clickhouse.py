"""Opens ClickHouse clients with every option stated. The one importer of clickhouse-connect.

A client is safe to share between threads: it holds no server session. Inserts that must be exact go through
`insert_block`, which sends one block under one deduplication token and never repeats it by itself.
"""

import io
from typing import Any, Final
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError

from pipeline.settings import ClickHouseSettings

__all__ = [
    "FILL_SETTING",
    "ClickHouseError",
    "Client",
    "DatabaseError",
    "OperationalError",
    "insert_block",
    "open_analyst",
    "open_client",
    "open_server",
]

CONNECT_TIMEOUT_SECONDS: Final = 5
QUERY_TIMEOUT_SECONDS: Final = 60
"""As long as the analyst's own limit on the server."""
BLOCK_ROWS_MAX: Final = 2_000_000
"""Above `SinkSettings.batch_rows_max`: what is sent as one block is also stored as one."""

FILL_SETTING: Final = "log_comment"
"""What an insert says its `fill` by, and the constraint of a rebuilt table reads: any text may stand in it."""

_EXACT_INSERT: Final[dict[str, Any]] = {
    # The server's queue would answer before the rows are stored, and it ignores tokens.
    "async_insert": 0,
    "insert_deduplicate": 1,
    # A block that is sent again completes the rollups which a crash left without it.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # One block: neither cut by rows, nor by bytes, nor by parallel parsing.
    "max_insert_block_size": BLOCK_ROWS_MAX,
    "min_insert_block_size_rows": BLOCK_ROWS_MAX,
    "min_insert_block_size_bytes": 0,
    "input_format_parallel_parsing": 0,
    # RFC 3339 with a Z, and nested JSON as its own text.
    "date_time_input_format": "best_effort",
    "input_format_json_read_objects_as_strings": 1,
    "input_format_null_as_default": 1,
    # A newer worker may add attributes before the tables have them; a wrong type is still an error.
    "input_format_skip_unknown_fields": 1,
    "input_format_allow_errors_num": 0,
}


def open_client(clickhouse: ClickHouseSettings) -> Client:
    """As the application's user, in the application's database."""
    password = clickhouse.password.get_secret_value()
    return _open(
        clickhouse, clickhouse.user, password, clickhouse.database, clickhouse.insert_timeout_seconds
    )


def open_analyst(clickhouse: ClickHouseSettings) -> Client:
    """As the read-only analyst: what people and the command line query with."""
    password = clickhouse.analyst_password.get_secret_value()
    return _open(clickhouse, clickhouse.analyst_user, password, clickhouse.database, QUERY_TIMEOUT_SECONDS)


def open_server(clickhouse: ClickHouseSettings) -> Client:
    """As the application's user, in the server's default database: for before ours exists."""
    password = clickhouse.password.get_secret_value()
    return _open(clickhouse, clickhouse.user, password, "default", QUERY_TIMEOUT_SECONDS)


def _open(clickhouse: ClickHouseSettings, user: str, password: str, database: str, seconds: int) -> Client:
    url = urlsplit(clickhouse.url)
    secure = url.scheme == "https"
    client = clickhouse_connect.get_client(
        host=url.hostname,
        port=url.port or (8443 if secure else 8123),
        secure=secure,
        verify=True,
        ca_cert=None if clickhouse.ca_file is None else str(clickhouse.ca_file),
        username=user,
        password=password,
        database=database,
        compress=False,  # Loopback or a data centre: the processor is scarcer than the network.
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        send_receive_timeout=seconds,
        query_retries=0,
        autogenerate_session_id=False,
        autogenerate_query_id=True,
        show_clickhouse_errors=True,
        tz_mode="aware",
    )
    client.http_retries = 0  # type: ignore[attr-defined]  # the HTTP client's; Client is its base
    return client


def insert_block(client: Client, table: str, rows: bytes, *, token: str, fill: str = "") -> None:
    """Insert JSON objects, one a line, as one block under `token`. Tables of another `fill` refuse it.

    The body is a stream because clickhouse-connect repeats a request whose connection broke when the body is
    bytes: at a time, and so often, that nobody here decides. Repeating is the caller's, within its bounds.
    """
    settings = {**_EXACT_INSERT, "insert_deduplication_token": token, FILL_SETTING: fill}
    client.raw_insert(table, insert_block=io.BytesIO(rows), fmt="JSONEachRow", settings=settings)
