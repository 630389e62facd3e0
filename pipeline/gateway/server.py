"""Runs the gateway under uvicorn, with its own bounds on connections, until SIGTERM or a part that cannot go on."""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline import tracing
from pipeline.gateway.app import create_app
from pipeline.gateway.parts import Parts
from pipeline.logs import log_to_stderr
from pipeline.settings import Settings

HEAD_BYTES_MAX: Final = 65_536
WATCH_SECONDS: Final = 0.5
BACKLOG: Final = 2048
EXIT_FAILED: Final = 1
Application: TypeAlias = Callable[[Settings], FastAPI]
_LOG: Final = logging.getLogger(__name__)


class PunctualProtocol(HttpToolsProtocol):
    """Closes a connection whose request has begun and whose head does not end: uvicorn itself would wait for ever."""

    head_seconds_max = 10.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # as uvicorn declares it
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and self.cycle.response_complete:  # A head has come, so there is a cycle.
            self._expect_head()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > HEAD_BYTES_MAX:
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._forget_head()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(
            self.head_seconds_max, self._too_slow
        )

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self.transport.close()


def run(settings: Settings, application: Application = create_app) -> None:
    """Serve until asked to stop. Ends the process with an error when a part of it has failed for good."""
    log_to_stderr(settings.log)
    tracing.begin("gateway", enabled=settings.tracing.enabled)
    server = uvicorn.Server(config(settings, application))
    asyncio.run(_serve(server))
    if not server.started or _failure(server) is not None:
        sys.exit(EXIT_FAILED)


def config(settings: Settings, application: Application = create_app) -> uvicorn.Config:
    gateway = settings.gateway
    protocol = type("Protocol", (PunctualProtocol,), {"head_seconds_max": gateway.head_seconds_max})
    options: dict[str, Any] = {"http": protocol}
    return uvicorn.Config(
        application(settings),
        host=gateway.host,
        port=gateway.port,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=gateway.connections_max,
        backlog=BACKLOG,
        timeout_keep_alive=gateway.idle_seconds_max,
        timeout_graceful_shutdown=gateway.shutdown_seconds_max,
        ssl_certfile=gateway.tls_cert_file,
        ssl_keyfile=None if gateway.tls_key_file is None else str(gateway.tls_key_file),
        **options,
    )


async def _serve(server: uvicorn.Server) -> None:
    watch = asyncio.create_task(_watch(server))
    try:
        await server.serve()
    finally:
        watch.cancel()


async def _watch(server: uvicorn.Server) -> None:
    """Alive is not enough: a gateway whose reader has ended answers nobody."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        failure = _failure(server)
        if failure is not None:
            _LOG.error("ending: %s", failure)
            server.should_exit = True
            return


def _failure(server: uvicorn.Server) -> str | None:
    app = server.config.app
    assert isinstance(app, FastAPI), "as `config` made it"
    parts = getattr(app.state, "parts", None)
    return parts.failure() if isinstance(parts, Parts) else None
