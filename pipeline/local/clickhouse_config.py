"""Writes the embedded ClickHouse server's configuration: listeners, limits, and who may do what.

Users are decided here and nowhere else (the engine has no writable access storage): `creditstream` owns every
database, `analyst` reads the application's and can neither write, nor reach files and hosts, nor lift its
limits. The files hold only hashes of passwords.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from pipeline.local.ports import LOOPBACK

MEMORY_BYTES_MAX: Final = 2_000_000_000
ANALYST_MEMORY_BYTES_MAX: Final = 1_000_000_000
ANALYST_SECONDS_MAX: Final = 60
"""Of one query: also the default."""
ANALYST_QUERIES_AT_ONCE_MAX: Final = 8
ANALYST_QUERIES_PER_HOUR_MAX: Final = 100_000
BOOT_QUERIES: Final = 3
"""Statements of the boot script: start HTTP, start TCP, read the pipe."""

_OWNER_GRANTS: Final = (
    "GRANT SHOW, SELECT, INSERT, ALTER, CREATE, DROP, TRUNCATE, OPTIMIZE, dictGet, KILL QUERY ON *.*",
    "REVOKE INSERT, ALTER, CREATE, DROP, TRUNCATE ON system.*",
    "GRANT TABLE ENGINE ON *",
    "GRANT SYSTEM FLUSH LOGS, SYSTEM MERGES, SYSTEM VIEWS ON *.*",
)
# clickhouse-local's own session is always `default` without a password: the boot script runs in it.
# So `default` may do what the script does, and its quota allows no query more.
_BOOT_GRANTS: Final = (
    "GRANT SYSTEM LISTEN ON *.*",
    "GRANT READ ON FILE",
    "GRANT CREATE TEMPORARY TABLE ON *.*",
)

_PROFILES: Final = f"""
  <profiles>
    <default/>
    <analyst>
      <readonly>2</readonly>
      <max_execution_time>{ANALYST_SECONDS_MAX}</max_execution_time>
      <max_memory_usage>{ANALYST_MEMORY_BYTES_MAX}</max_memory_usage>
      <max_concurrent_queries_for_user>{ANALYST_QUERIES_AT_ONCE_MAX}</max_concurrent_queries_for_user>
      <constraints>
        <readonly><readonly/></readonly>
        <max_execution_time><min>1</min><max>{ANALYST_SECONDS_MAX}</max></max_execution_time>
        <max_memory_usage><min>1</min><max>{ANALYST_MEMORY_BYTES_MAX}</max></max_memory_usage>
        <max_concurrent_queries_for_user><readonly/></max_concurrent_queries_for_user>
      </constraints>
    </analyst>
  </profiles>
  <quotas>
    <default/>
    <analyst><interval><duration>3600</duration><queries>{ANALYST_QUERIES_PER_HOUR_MAX}</queries></interval></analyst>
    <boot><interval><duration>2000000000</duration><queries>{BOOT_QUERIES}</queries></interval></boot>
  </quotas>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickHousePorts:
    http: int
    native: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickHouseUsers:
    """Names and passwords, and the databases that the analyst reads (`*` at the end: any ending)."""

    owner: str
    owner_password: SecretStr
    analyst: str
    analyst_password: SecretStr
    analyst_databases: Sequence[str]


def write_config(directory: Path, ports: ClickHousePorts, users: ClickHouseUsers) -> None:
    """`config.xml` and `users.xml`, as clickhouse-local reads them from its working directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("config.xml", _server(ports)), ("users.xml", _access(users))):
        path = directory / name
        path.touch(mode=0o600)
        path.write_text(text)


def _server(ports: ClickHousePorts) -> str:
    return f"""<clickhouse>
  <listen_host>{LOOPBACK}</listen_host>
  <http_port>{ports.http}</http_port>
  <tcp_port>{ports.native}</tcp_port>
  <users_config>users.xml</users_config>
  <display_name>creditstream</display_name>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{MEMORY_BYTES_MAX}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_schedule_pool_size>4</background_schedule_pool_size>
  <max_concurrent_queries>64</max_concurrent_queries>
  <keep_alive_timeout>3</keep_alive_timeout>
  <query_log>
    <database>system</database>
    <table>query_log</table>
    <ttl>event_date + INTERVAL 3 DAY</ttl>
    <flush_interval_milliseconds>1000</flush_interval_milliseconds>
  </query_log>
  <merge_tree>
    <fsync_after_insert>1</fsync_after_insert>
    <fsync_part_directory>1</fsync_part_directory>
  </merge_tree>
</clickhouse>
"""


def _access(users: ClickHouseUsers) -> str:
    reads = tuple(f"GRANT SHOW, SELECT ON {database}.*" for database in users.analyst_databases)
    named = {
        "default": _user("<no_password/>", "default", "boot", _BOOT_GRANTS),
        users.owner: _user(_hashed(users.owner_password), "default", "default", _OWNER_GRANTS),
        users.analyst: _user(_hashed(users.analyst_password), "analyst", "analyst", reads),
    }
    return f"<clickhouse>{_PROFILES}\n  <users>{_elements(named)}</users>\n</clickhouse>\n"


def _user(password: str, profile: str, quota: str, grants: Sequence[str]) -> str:
    queries = "".join(f"<query>{grant}</query>" for grant in grants)
    return (
        f"{password}<networks><ip>127.0.0.1</ip><ip>::1</ip></networks>"
        f"<profile>{profile}</profile><quota>{quota}</quota><grants>{queries}</grants>"
    )


def _hashed(password: SecretStr) -> str:
    digest = hashlib.sha256(password.get_secret_value().encode()).hexdigest()
    return f"<password_sha256_hex>{digest}</password_sha256_hex>"


def _elements(named: Mapping[str, str]) -> str:
    return "".join(f"\n    <{name}>{body}</{name}>" for name, body in named.items())
