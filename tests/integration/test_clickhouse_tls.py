"""A ClickHouse behind TLS is reached when its authority is known, and refused when it is not."""

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.clickhouse import ClickHouseError, open_analyst
from pipeline.local.ports import free_port
from pipeline.settings import ClickHouseSettings
from tests.deployment import DEPLOY

pytestmark = pytest.mark.integration


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.close()  # So the other side reads to its end, too.


@pytest.fixture
def encrypted(clickhouse: ClickHouseSettings, tmp_path: Path) -> Iterator[ClickHouseSettings]:
    """The session's ClickHouse behind a proxy that ends TLS, with a certificate of `deploy/kafka/certificates.sh`."""
    tls, port, loop = tmp_path / "tls", free_port(), asyncio.new_event_loop()
    subprocess.run(
        ["sh", DEPLOY / "kafka" / "certificates.sh", tls, "127.0.0.1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.crt", tls / "server.key")
    upstream = int(clickhouse.url.rpartition(":")[2])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside_reader, inside_writer = await asyncio.open_connection("127.0.0.1", upstream)
        try:
            ways = _forward(reader, inside_writer), _forward(inside_reader, writer)
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for each in (inside_writer, writer):
                each.transport.abort()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", port, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield clickhouse.model_copy(update={"url": f"https://127.0.0.1:{port}", "ca_file": tls / "ca.crt"})

    async def end() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_its_authority_is_named_by_a_setting(encrypted: ClickHouseSettings) -> None:
    with closing(open_analyst(encrypted.model_copy(update={"database": "default"}))) as client:
        assert client.query("SELECT 1").result_rows == [(1,)]


def test_an_unknown_authority_is_refused(encrypted: ClickHouseSettings) -> None:
    with pytest.raises(ClickHouseError, match="CERTIFICATE_VERIFY_FAILED"):
        open_analyst(encrypted.model_copy(update={"database": "default", "ca_file": None}))
