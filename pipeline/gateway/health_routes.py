"""`/livez`, `/readyz`, `/metrics`: for whoever keeps the gateway running. Without a key; they name no account."""

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pipeline.gateway.parts import parts_of

router: Final = APIRouter(tags=["Health"])


@router.get("/livez")
async def livez(request: Request) -> JSONResponse:
    """Whether this process can still do its work. If not, end it and start another."""
    failure = parts_of(request).failure()
    return JSONResponse({"status": failure or "ok"}, 503 if failure else 200)


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """Whether requests should come here, part by part. ClickHouse is told but not required: events and holds need
    none, and reads that do say so themselves."""
    parts = parts_of(request)
    failure = parts.failure()
    required = {"kafka": failure or "ok", "balances": "ok", "keys": "ok"}
    stored = "ok" if await parts.store.is_up() else "unavailable"
    return JSONResponse(
        {"status": "unavailable" if failure else "ok", "components": {**required, "clickhouse": stored}},
        503 if failure else 200,
    )


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus."""
    parts = parts_of(request)
    parts.metrics.in_flight.set(parts.log.in_flight)
    parts.metrics.balances.set(parts.views.accounts)
    parts.metrics.keys_refused.set(parts.views.keys.refused)
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
