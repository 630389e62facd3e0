"""The service's two channels: pages for people (`/web/…`), JSON for programs (`/api/…`). Same work, same price."""

from base64 import b64encode
from html import escape
from typing import Annotated, Any, Final

from fastapi import FastAPI, File, Form, Header, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from pipeline.client import CreditsShortError, GatewayAwayError, HoldRefusedError
from pipeline.client.origin import new_id
from pipeline.example.jobs import Done, Jobs, Order
from pipeline.example.pictures import SCALE_MAX, PictureError
from schemas.base import Channel
from schemas.usage_event import Quality

IMAGES_MAX: Final = 16
SIDE_MIN, SIDE_MAX = 64, 2048
PAGE: Final = """<!doctype html><html lang="en"><title>Pictures</title><h1>Pictures</h1>
<form action="/web/generate" method="post"><label>Account <input name="account" value="example"></label>
<label>Prompt <input name="prompt" value="a red circle"></label>
<label>Images <input name="images" type="number" value="4" min="1" max="16"></label><button>Generate</button></form>
<form action="/web/upscale" method="post" enctype="multipart/form-data">
<label>Account <input name="account" value="example"></label>
<label>Picture <input name="file" type="file"></label><button>Upscale</button></form>
<form action="/web/backgrounds" method="post" enctype="multipart/form-data">
<label>Account <input name="account" value="example"></label>
<label>Pictures <input name="files" type="file" multiple></label><button>Remove backgrounds</button></form></html>
"""

Account = Annotated[str, Form()]
Key = Annotated[str, Header(alias="Idempotency-Key")]
"""A request with the same key again is the same request, and is charged once."""


def create_app(jobs: Jobs) -> FastAPI:
    """The service over HTTP. Its calls run in threads, which share one client."""
    app = FastAPI(title="Pictures", openapi_url=None)
    _tell_problems(app)

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @app.post("/{channel}/generate")
    def generate(  # noqa: PLR0913, PLR0917  (the form's fields)
        channel: Channel,
        account: Account,
        prompt: Annotated[str, Form(max_length=200)],
        images: Annotated[int, Form(ge=1, le=IMAGES_MAX)] = 1,
        quality: Annotated[Quality, Form()] = "medium",
        side: Annotated[int, Form(ge=SIDE_MIN, le=SIDE_MAX)] = 512,
        key: Key = "",
    ) -> Response:
        order = Order(account, channel, key or new_id())
        return _answer(channel, jobs.generate(order, prompt, images=images, quality=quality, side=side))

    @app.post("/{channel}/upscale")
    def upscale(
        channel: Channel,
        account: Account,
        file: Annotated[bytes, File()],
        scale: Annotated[int, Form(ge=2, le=SCALE_MAX)] = 2,
        key: Key = "",
    ) -> Response:
        return _answer(channel, jobs.upscale(Order(account, channel, key or new_id()), file, scale=scale))

    @app.post("/{channel}/backgrounds")
    def backgrounds(
        channel: Channel, account: Account, files: Annotated[list[bytes], File()], key: Key = ""
    ) -> Response:
        return _answer(channel, jobs.remove_backgrounds(Order(account, channel, key or new_id()), files))

    return app


def _tell_problems(app: FastAPI) -> None:
    app.add_exception_handler(CreditsShortError, _short)
    app.add_exception_handler(HoldRefusedError, _refused)
    app.add_exception_handler(GatewayAwayError, _away)
    app.add_exception_handler(PictureError, _no_picture)


def _answer(channel: Channel, done: Done) -> Response:
    shown = [f"data:image/png;base64,{b64encode(each).decode()}" for each in done.pictures]
    charged = None if done.charged is None else str(done.charged)
    if channel == "api":
        return JSONResponse({"pictures": shown, "failures": done.failures, "charged": charged})
    images = "".join(f'<img alt="" width="128" src="{each}">' for each in shown)
    failures = "".join(f"<p>{escape(each)}: not charged</p>" for each in done.failures)
    return HTMLResponse(f"{PAGE}<p>Credits: {charged or 'see your usage'}</p>{images}{failures}")


def _problem(status: int, **members: Any) -> Response:
    return JSONResponse({"status": status, **members}, status, media_type="application/problem+json")


def _short(_request: Request, error: Exception) -> Response:
    assert isinstance(error, CreditsShortError), "as it was registered"
    required, available = str(error.required), str(error.available)
    return _problem(402, code=error.code, required=required, available=available, resets_at=error.resets_at)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HoldRefusedError), "as it was registered"
    return _problem(403, code=error.code, detail=str(error))


def _away(_request: Request, error: Exception) -> Response:
    return _problem(503, code="credits_unavailable", detail=str(error))


def _no_picture(_request: Request, error: Exception) -> Response:
    return _problem(422, code="no_picture", detail=str(error))
