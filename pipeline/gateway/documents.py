"""What describes the gateway: OpenAPI 3.1, the same as a page to read, AsyncAPI, JSON Schemas. Offline, no script."""

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.gateway.json_answers import json_answer
from pipeline.gateway.problems import PROBLEM_TYPE, ProblemError
from schemas import http_api
from schemas.shapes import SHAPES, USAGE

router: Final = APIRouter(tags=["Documents"], include_in_schema=False)

_NOTIFICATIONS: Final = "/v1/accounts/{account_id}/notifications"
_REPLAY: Final = "/v1/dead-letters/{partition}/{offset}/replay"
_BODIES: Final[dict[tuple[str, str], type[BaseModel]]] = {
    ("/v1/estimate", "post"): http_api.EstimateRequest,
    ("/v1/holds", "post"): http_api.PlaceHoldRequest,
    ("/v1/holds/{hold_id}/capture", "post"): http_api.CaptureHoldRequest,
    ("/v1/holds/{hold_id}/release", "post"): http_api.ReleaseHoldRequest,
    ("/v1/accounts", "post"): http_api.OpenAccountRequest,
    ("/v1/accounts/{account_id}/grants", "post"): http_api.GrantRequest,
    ("/v1/accounts/{account_id}/grants/{grant_id}/void", "post"): http_api.VoidGrantRequest,
    ("/v1/accounts/{account_id}/plan", "post"): http_api.ChangePlanRequest,
    ("/v1/accounts/{account_id}/settings", "patch"): http_api.ConfigureRequest,
    ("/v1/accounts/{account_id}/close", "post"): http_api.CloseAccountRequest,
    ("/v1/keys", "post"): http_api.NewKeyRequest,
    ("/v1/accounts/{account_id}/charges/{event_id}/reverse", "post"): http_api.ReverseChargeRequest,
    ("/v1/accounts/{account_id}/charges/{event_id}/rerate", "post"): http_api.RerateChargeRequest,
    ("/v1/price-books", "post"): http_api.PublishPriceBookRequest,
    ("/v1/plans", "post"): http_api.PublishPlansRequest,
    (_REPLAY, "post"): http_api.ReplayDeadLetterRequest,
    (_NOTIFICATIONS, "put"): http_api.NotificationsRequest,
    (f"{_NOTIFICATIONS}/webhooks", "post"): http_api.NewWebhookRequest,
    (f"{_NOTIFICATIONS}/test", "post"): http_api.TestRequest,
}
"""Routes read their bodies themselves, byte by byte within bounds; here stands what they take."""
_IDEMPOTENT: Final = frozenset(
    (path, method)
    for path, method in _BODIES
    # A replay is charged once by the usage's own id.
    if path not in {"/v1/estimate", "/v1/keys", _REPLAY} and not path.startswith(_NOTIFICATIONS)
)
_REF: Final = "#/components/schemas/{model}"
_INTRODUCTION: Final = (
    "Usage events in, credits out. Amounts are decimal strings, instants RFC 3339. Every error is an RFC 9457 problem: "
    "decide by its `code`. 402 is for credits, 429 for rates. A request that was not answered is sent again as it was: "
    "events by their own id, commands by their `Idempotency-Key` (remembered for 72 hours, of one key and account). "
    "What was refused stays refused under its Idempotency-Key."
)


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application."""
    document = get_openapi(
        title="creditstream", version="1.0.0", description=_INTRODUCTION, routes=app.routes
    )
    models: list[type[BaseModel]] = [
        *_BODIES.values(),
        http_api.EventResult,
        http_api.EventsAnswer,
        http_api.Problem,
    ]
    _, found = models_json_schema([(each, "validation") for each in models], ref_template=_REF)
    schemas = document["components"]["schemas"]
    schemas |= found["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "bearerFormat": "cs_live_…"}
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation)
    document["paths"]["/v1/events"]["post"]["requestBody"] = _event_body()
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    problem = {PROBLEM_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    responses["default"] = {"description": "A problem", "content": problem}
    if path.startswith("/v1/"):
        operation["security"] = [{"key": []}]
    body = _BODIES.get((path, method))
    if body is not None:
        schema = {"schema": {"$ref": _REF.format(model=body.__name__)}}
        operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
    if (path, method) in _IDEMPOTENT:
        operation.setdefault("parameters", []).append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": "^[ -~]{1,200}$"},
                "description": "The same request again under the same key is obeyed once.",
            }
        )
    if path == "/v1/events":
        answers = {"application/json": {"schema": {"anyOf": [
            {"$ref": _REF.format(model=each)} for each in ("EventsAnswer", "EventResult")
        ]}}}  # fmt: skip
        responses["200"] = {"description": "What became of the events", "content": answers}
        responses["202"] = {"description": "Acknowledged by Kafka", "content": answers}
    if path.endswith("/export"):
        kinds: dict[str, dict[str, str]] = {
            "application/json": {},
            "application/x-ndjson": {},
            "text/csv": {},
        }
        responses["200"] = {"description": "usage_export.v1, or its records", "content": kinds}
    if path == "/metrics":
        responses["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}


def _event_body() -> dict[str, Any]:
    event = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
        "description": "CloudEvents 1.0; /schemas/ has the JSON Schema of each type: " + ", ".join(USAGE),
    }
    return {
        "required": True,
        "content": {
            "application/cloudevents+json": {"schema": event},
            "application/cloudevents-batch+json": {"schema": {"type": "array", "items": event}},
            "application/json": {
                "schema": {"type": "object", "description": "`data`; attributes in ce-… headers"}
            },
        },
    }


@router.get("/openapi.json")
async def openapi_json(request: Request) -> Response:
    return json_answer(request.app.openapi())


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """The reference, to read. Nothing is fetched from anywhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(page_of(request.app.openapi()), headers={"Content-Security-Policy": policy})


@router.get("/asyncapi.yaml")
async def asyncapi() -> Response:
    """What stands on Kafka."""
    return Response(files("schemas").joinpath("asyncapi.yaml").read_bytes(), media_type="application/yaml")


@router.get("/json/{name}.schema.json")
@router.get("/schemas/{name}.schema.json")
async def json_schema(name: str) -> Response:
    """The JSON Schema of an event, a command or a record; where asyncapi.yaml looks for it too."""
    if name not in SHAPES:
        raise ProblemError("not_found", f"expected one of {', '.join(SHAPES)}")
    content = files("schemas").joinpath("json", f"{name}.schema.json").read_bytes()
    return Response(content, media_type="application/schema+json")


_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font:14px ui-monospace,monospace}h2{margin-top:2.5rem}section{border-top:1px solid #8886;padding:.5rem 0}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}"
)


def page_of(document: Mapping[str, Any]) -> str:
    """The OpenAPI document as HTML."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            groups.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(each)}" for tag, each in groups.items())
    models = "".join(_model(name, each) for name, each in sorted(document["components"]["schemas"].items()))
    links = " · ".join(f"<a href=/{each}>{each}</a>" for each in ("openapi.json", "asyncapi.yaml", "readyz"))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>creditstream</title><style>{_STYLE}</style><h1>creditstream</h1>"
        f"<p>{escape(document['info']['description'])}</p><p>{links}</p>{body}<h2>Shapes</h2>{models}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (each["name"], each["in"], each.get("description", ""), each["schema"])
        for each in operation.get("parameters", ())
    ]
    table = _table((name, f"{where}: {_words(schema)}", text) for name, where, text, schema in rows)
    bodies = operation.get("requestBody", {}).get("content", {})
    takes = "".join(
        f"<p>Takes <code>{escape(kind)}</code>: {_words(each['schema'])}</p>" for kind, each in bodies.items()
    )
    return (
        f"<section><h3><code>{method.upper()} {escape(path)}</code></h3>"
        f"<p>{escape(operation.get('description', ''))}</p>{table}{takes}</section>"
    )


def _model(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = (
        (each, _words(about) + ("" if each in required else " (optional)"), about.get("description", ""))
        for each, about in schema.get("properties", {}).items()
    )
    text = escape(schema.get("description", ""))
    return f"<section id='{escape(name)}'><h3>{escape(name)}</h3><p>{text}</p>{_table(rows)}</section>"


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{escape(text)}" for name, kind, text in rows]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _words(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to its shapes."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for joint in ("anyOf", "oneOf", "allOf"):
        if joint in schema:
            return " or ".join(_words(each) for each in schema[joint])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {}))}"
    return escape(str(schema.get("const", schema.get("type", "any"))))
