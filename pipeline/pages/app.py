"""The gateway with the account pages beside its endpoints: one process, one port, one origin."""

from typing import Final

from fastapi import FastAPI, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from pipeline.gateway import app as gateway
from pipeline.pages import (
    alerts,
    billing,
    credits_page,
    dashboard,
    keys_page,
    operators,
    prices,
    sign_in,
    usage,
)
from pipeline.pages.sessions import Sessions
from pipeline.settings import Settings

ASSET_SECONDS: Final = 3600
"""Browsers keep stylesheet and scripts for so long; their address changes with the release."""


class Assets(StaticFiles):
    """Stylesheet, scripts and licences of this release. Nothing comes from anywhere else."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if isinstance(response, FileResponse):
            response.headers["Cache-Control"] = f"public, max-age={ASSET_SECONDS}"
        return response


def create_app(settings: Settings) -> FastAPI:
    """As the gateway's, with screens."""
    app = gateway.create_app(settings)
    app.state.sessions = Sessions(settings)
    app.mount("/static", Assets(packages=[("pipeline.pages", "static")]))
    for screens in (sign_in, dashboard, usage, credits_page, alerts, billing, keys_page, prices, operators):
        app.include_router(screens.router)
    return app
