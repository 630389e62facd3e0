"""The composition root of the gateway: parts opened, routes put together, every request named and measured."""

import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.client.commands import command_key
from pipeline.client.origin import new_id
from pipeline.gateway import (
    account_routes,
    correction_routes,
    documents,
    event_routes,
    health_routes,
    hold_routes,
    key_routes,
    listing_routes,
    notification_routes,
    operator_routes,
    problems,
    publication_routes,
    unsubscribe_routes,
)
from pipeline.gateway.answers import Answers
from pipeline.gateway.balances import Views
from pipeline.gateway.freshness import FreshnessWatch
from pipeline.gateway.kafka_log import LogPublisher
from pipeline.gateway.limits import Rates
from pipeline.gateway.metrics import Metrics
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError, problem_response
from pipeline.gateway.schedule import Schedule
from pipeline.gateway.store import Store
from pipeline.settings import Settings
from pipeline.tracing import HEADER, continued

_LOG: Final = logging.getLogger(__name__)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class NoCommandKeyError(Exception):
    """The gateway signs commands and has nothing to sign with."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"expected a command key {key_id!r} in CREDITSTREAM_COMMAND_KEYS, there is none")


async def open_parts(settings: Settings) -> Parts:
    """Connects, and reads balances, keys and the schedule to their present end."""
    signing = command_key(settings)
    if signing is None:
        raise NoCommandKeyError(settings.command_key_id)
    answers = Answers(settings)
    views, store = Views(settings, answers), Store(settings)
    parts = Parts(
        settings=settings,
        signing=signing,
        log=LogPublisher(settings),
        answers=answers,
        views=views,
        store=store,
        freshness=FreshnessWatch(views, store),
        rates=Rates(settings.gateway),
        schedule=Schedule(settings, answers),
        metrics=Metrics(),
    )
    try:
        await answers.start()
        await views.start()
        await parts.schedule.now()
        parts.freshness.start()
    except BaseException:
        await parts.close()
        raise
    return parts


def create_app(settings: Settings) -> FastAPI:
    """The application; its parts live from its start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        app.state.parts = parts = await open_parts(settings)
        _LOG.info("%d balances and %d keys read", parts.views.accounts, len(parts.views.keys.all()))
        try:
            yield
        finally:
            await parts.close()

    app = FastAPI(
        title="creditstream",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(NamedAndMeasured)
    for routes in (
        event_routes,
        hold_routes,
        listing_routes,
        account_routes,
        operator_routes,
        publication_routes,
        correction_routes,
        key_routes,
        notification_routes,
        unsubscribe_routes,
        health_routes,
        documents,
    ):
        app.include_router(routes.router)
    app.openapi = cache(lambda: documents.openapi_of(app))  # type: ignore[method-assign]  # FastAPI's own way
    return app


class NamedAndMeasured:
    """Gives each request an id, its answer some headers, and the metrics their figures. Plain ASGI: it costs a tenth of
    what Starlette's own base for middleware does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        name = request.state.request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = name
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
                _measure(request, status, time.perf_counter() - began)
            await send(message)

        try:
            with continued(request.headers.get(HEADER, "")):
                await self._app(scope, receive, sent)
        except Exception:  # The top of a request: a fault of ours, told without its insides.
            _LOG.exception("a request failed", extra={"request_id": name})
            if status:  # Half an answer is out: the connection ends in the middle of it.
                raise
            problem = ProblemError("internal_error", "a fault of the gateway's")
            await problem_response(request, problem)(scope, receive, sent)


def _measure(request: Request, status: int, seconds: float) -> None:
    """By the route's pattern, not by the path: its number has a bound."""
    route = getattr(request.scope.get("route"), "path", "")
    method = request.method if route else ""
    metrics = parts_of(request).metrics
    metrics.requests.labels(method, route, status).inc()
    metrics.seconds.labels(method, route).observe(seconds)
