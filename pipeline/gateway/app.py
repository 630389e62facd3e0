"""The composition root of the gateway: parts opened, routes put together, every request named and measured."""

import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

from fastapi import FastAPI, Request, Response

from pipeline.client.commands import command_key
from pipeline.client.origin import new_id
from pipeline.gateway import (
    account_routes,
    documents,
    event_routes,
    health_routes,
    hold_routes,
    key_routes,
    operator_routes,
    problems,
)
from pipeline.gateway.answers import Answers
from pipeline.gateway.balances import Views
from pipeline.gateway.kafka_log import LogPublisher
from pipeline.gateway.limits import Rates
from pipeline.gateway.metrics import Metrics
from pipeline.gateway.parts import Parts, parts_of
from pipeline.gateway.problems import ProblemError, problem_response
from pipeline.gateway.store import Store
from pipeline.pricing import Pricing
from pipeline.settings import Settings

_LOG: Final = logging.getLogger(__name__)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class NoCommandKeyError(Exception):
    """The gateway signs commands and has nothing to sign with."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"expected a command key {key_id!r} in CREDITSTREAM_COMMAND_KEYS, there is none")


async def open_parts(settings: Settings) -> Parts:
    """Connects, and reads balances and keys to their present end."""
    signing = command_key(settings)
    if signing is None:
        raise NoCommandKeyError(settings.command_key_id)
    answers = Answers(settings)
    parts = Parts(
        settings=settings,
        signing=signing,
        log=LogPublisher(settings),
        answers=answers,
        views=Views(settings, answers),
        store=Store(settings),
        rates=Rates(settings.gateway),
        pricing=Pricing(settings.rules, explain=True),
        metrics=Metrics(),
    )
    try:
        await answers.start()
        await parts.views.start()
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
    app.middleware("http")(_named_and_measured)
    for routes in (
        event_routes,
        hold_routes,
        account_routes,
        operator_routes,
        key_routes,
        health_routes,
        documents,
    ):
        app.include_router(routes.router)
    app.openapi = cache(lambda: documents.openapi_of(app))  # type: ignore[method-assign]  # FastAPI's own way
    return app


async def _named_and_measured(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    given = request.headers.get("x-request-id", "")
    request.state.request_id = given if _REQUEST_ID.fullmatch(given) else new_id()
    began = time.perf_counter()
    try:
        response = await call_next(request)
    except Exception:  # noqa: BLE001  (the top of a request: a fault of ours, told without its insides)
        _LOG.exception("request %s failed", request.state.request_id)
        response = problem_response(request, ProblemError("internal_error", "a fault of the gateway's"))
    response.headers["X-Request-Id"] = request.state.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")
    route = getattr(request.scope.get("route"), "path", "")
    metrics = parts_of(request).metrics
    metrics.requests.labels(request.method if route else "", route, response.status_code).inc()
    metrics.seconds.labels(request.method if route else "", route).observe(time.perf_counter() - began)
    return response
